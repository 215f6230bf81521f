"""Decoders that crash, hang and lie, for files that begin with the name of a deed; others are decoded."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from runtime.image.images import Pixels
from runtime.serve.decoding.answers import Answer
from runtime.serve.decoding.work import Work


def deed(name: str, body: bytes = b"") -> bytes:
    """A file that makes `Misbehaving` do this."""
    assert name in _DEEDS
    return name.encode().ljust(16) + body


@dataclass(frozen=True)
class Misbehaving(Work):
    """A `Work` of which some files have got hold."""

    def __call__(self, kind: bytes, image: bytes) -> Answer:
        done = _DEEDS.get(image[:16].decode("latin-1").rstrip())
        return super().__call__(kind, image) if done is None else done()


def _segfault() -> Answer:
    ctypes.string_at(0)
    raise AssertionError


def _kill() -> Answer:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def _sleep() -> NoReturn:
    while True:
        time.sleep(1)


def _spin() -> NoReturn:
    while True:
        pass


def _sleep_without_alarm() -> NoReturn:
    signal.setitimer(signal.ITIMER_REAL, 0)
    _sleep()


def _stop() -> NoReturn:
    os.kill(os.getpid(), signal.SIGSTOP)
    _sleep()


def _raise() -> NoReturn:
    raise RuntimeError("ZQX")


def _lie() -> Answer:
    return Answer(pixels=Pixels(np.zeros((1, 1), np.uint8), (1, 1)))


def _open() -> Answer:
    opened = []
    for attempt in (Path("/etc/passwd").read_bytes, socket.socket, os.pipe, lambda: os.open("/", os.O_RDONLY)):
        try:
            attempt()
        except OSError:
            continue
        opened.append("something")
    return Answer(reason=f"opened {' '.join(opened) or 'nothing'}")


def _environment() -> Answer:
    return Answer(reason=" ".join(sorted(os.environ)))


def _take_memory() -> Answer:
    taken = []
    try:
        while len(taken) < 64:
            taken.append(np.ones(1 << 24, np.uint8))
    except MemoryError:
        pass
    return Answer(reason=str(len(taken)))


_DEEDS: dict[str, Callable[[], Answer]] = {
    "segfault": _segfault,
    "kill": _kill,
    "sleep": _sleep,
    "spin": _spin,
    "sleep on": _sleep_without_alarm,
    "stop": _stop,
    "raise": _raise,
    "lie": _lie,
    "open": _open,
    "environment": _environment,
    "memory": _take_memory,
}
