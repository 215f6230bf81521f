"""SIGTERM as an exception."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Terminated", "terminable"]


class Terminated(BaseException):
    """SIGTERM came. Like KeyboardInterrupt no Exception, so that nothing but the command line takes it."""


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM, with which batch systems and containers end a job, raise: what is under way is then closed.

    Signals are the main thread's: on others nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise(*_: object) -> None:
    raise Terminated
