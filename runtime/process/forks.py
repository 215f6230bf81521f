"""What a forked child must not use of its parent's.

A child has the parent's memory and none of its threads. An inference session whose pool of threads is gone waits for it
for ever, when it computes and when it is destroyed; a lock that another thread held stays held; CUDA refuses. So:

- whoever keeps a session compares `generation()` with that of the time when it was opened, and opens another one;
- sessions registered with `outlive` are never destroyed in a child;
- locks are `ForkSafeLock`, which are free in a child;
- a fork waits until no session is being opened (`opening`), since the engines hold locks of the process meanwhile;
- engines that cannot be started again in a child are `started` and then `lost`.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401  its own hook must come first: what is being opened may start threads
import contextlib
import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from runtime.errors import ProviderError

__all__ = [
    "ForkSafeLock",
    "check_generation",
    "generation",
    "in_children",
    "lost",
    "opening",
    "outlive",
    "started",
]

# A fork goes on after so many seconds, should what is being opened not be ready: better a small risk than to hang.
_PATIENCE = 20.0
_REMEDY = "Load such an engine in children only, or start them with spawn or forkserver."


class ForkSafeLock:
    """A lock that is free in a forked child, whoever held it in the parent."""

    def __init__(self, *, reentrant: bool = False) -> None:
        self._make = threading.RLock if reentrant else threading.Lock
        self._lock = self._make()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Forget who holds it."""
        self._lock = self._make()


class _Openings:
    """Threads that are opening a session."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.Lock())
        self.threads: list[int] = []

    def others(self) -> bool:
        """Whether other threads than this one are at it."""
        return any(thread != threading.get_ident() for thread in self.threads)


_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()
_outliving: weakref.WeakSet[Any] = weakref.WeakSet()
_callbacks: list[Callable[[], None]] = []
_openings = _Openings()
_started: set[str] = set()
_lost: set[str] = set()
_process = os.getpid()
_generation = 0


def generation() -> int:
    """How often the process was forked on the way to this one, beginning with the import of this module."""
    if os.getpid() != _process:  # forked by foreign code that does not run Python's hooks
        _in_child()
    return _generation


def check_generation(begun: int, what: str) -> None:
    """Raise ProviderError where something was begun in a parent of this process.

    Args:
        begun: `generation()` of that time.
        what: what was begun, as the subject of a sentence.
    """
    if begun != generation():
        raise ProviderError(
            f"{what} was begun before this process was forked, and its threads stayed in the parent. Begin anew in the "
            "child."
        )


def outlive(session: object) -> None:
    """Never destroy this object in a forked child, where its destructor would wait for threads that are not there."""
    _outliving.add(session)


def in_children(call: Callable[[], None]) -> None:
    """Call something in every forked child before anything else."""
    _callbacks.append(call)


def started(engine: str) -> None:
    """Note that an engine runs in this process that cannot be started again in a forked child."""
    _started.add(engine)


def lost(engine: str) -> str | None:
    """Why an engine cannot be used in this process, as a whole sentence, or None."""
    generation()
    if engine not in _lost:
        return None
    return f"{engine} was started before this process was forked, and cannot be used in the child. {_REMEDY}"


@contextlib.contextmanager
def opening() -> Iterator[None]:
    """A session is being opened in here: forks by other threads wait."""
    generation()
    openings = _openings
    with openings.changed:
        openings.threads.append(threading.get_ident())
    try:
        yield
    finally:
        if openings is _openings:  # else this thread forked in here, and is in the child
            with openings.changed:
                openings.threads.remove(threading.get_ident())
                openings.changed.notify_all()


def _before_fork() -> None:
    _openings.changed.acquire()
    _openings.changed.wait_for(lambda: not _openings.others(), _PATIENCE)


def _in_parent() -> None:
    _openings.changed.release()


def _in_child() -> None:
    global _generation, _openings, _process
    _process = os.getpid()
    _generation += 1
    _openings = _Openings()
    _lost.update(_started)
    for session in list(_outliving):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))
    _outliving.clear()
    for lock in list(_locks):
        lock.renew()
    for call in _callbacks:
        call()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
