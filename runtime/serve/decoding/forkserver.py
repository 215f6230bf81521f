"""The process that forks a child for each picture; runs beside the server, which starts it and talks to it.

It has one thread, no engine, nothing of the server's memory or environment, and never looks at a picture. A child is
forked within milliseconds where starting Python takes a third of a second, shares its parent's memory, and ends with
its picture: whatever a hostile one did to it is gone. The server has each forked before there is a picture for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import pickle
import resource
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from runtime.serve.decoding.answers import BEGUN, framed
from runtime.serve.decoding.orders import COMMAND, KILL, LENGTH, READY, REQUEST, Orders

__all__ = ["main"]

# Seconds between looks for children that ended; and after which a child ends itself that the server did not end.
_REAP_EVERY, _GRACE = 1.0, 1.0
# Of prctl(2) and proc(5).
_SET_DUMPABLE, _SET_NO_NEW_PRIVILEGES = 4, 38
_FIRST_TO_GO = "1000"
# What decoders import when they are first needed, and a child could not.
_NEEDED = (
    *("pydicom", "pydicom.pixels", "pydicom.pixels.decoders", "pydicom.encaps", "pydicom.uid", "pydicom.overlays"),
    *("gdcm", "openjpeg", "PIL.PngImagePlugin", "PIL.JpegImagePlugin", "PIL.MpoImagePlugin", "PIL.Jpeg2KImagePlugin"),
    *("encodings.latin_1", "encodings.ascii", "encodings.utf_8", "encodings.idna", "unicodedata"),
)


def main(descriptor: int) -> None:
    """Fork children until the server closes its end.

    Args:
        descriptor: of a socket to the server, from which `Orders` come first: these are the server's own, and pickled.
    """
    control = socket.socket(fileno=descriptor)
    (length,) = LENGTH.unpack(control.recv(LENGTH.size, socket.MSG_WAITALL))
    orders: Orders = pickle.loads(control.recv(length, socket.MSG_WAITALL))
    for name in _NEEDED:
        with contextlib.suppress(Exception):  # extras that are not installed
            importlib.import_module(name)
    orders.work.warm()
    _settle()
    gc.collect()
    gc.freeze()  # or a child's garbage collection would touch, and so copy, all of this process's memory
    control.sendall(READY)
    _serve(control, orders)


def _settle() -> None:
    """What holds for this process and its children: nothing but the server ends them, and they leave no trace."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        # Where memory runs out all the same, the kernel should end a child, and not the server.
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, encoding="ascii")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    _control_process(_SET_NO_NEW_PRIVILEGES, 1)


def _control_process(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _serve(control: socket.socket, orders: Orders) -> None:
    children: dict[int, int] = {}  # picture → process
    limit = _address_space() + orders.memory
    while True:
        readable, _, _ = select.select([control], [], [], _REAP_EVERY if children else None)
        _reap(children)
        if not readable:
            continue
        message, descriptors, _, _ = socket.recv_fds(control, COMMAND.size, 1)
        if len(message) < COMMAND.size:
            break
        command, picture = COMMAND.unpack(message)
        if command == KILL and picture in children:
            os.kill(children[picture], signal.SIGKILL)
        for descriptor in descriptors:
            with contextlib.suppress(OSError):  # no process more: the server sees its socket closed
                children[picture] = _fork(control, descriptor, orders, limit)
            os.close(descriptor)
    for process in children.values():
        os.kill(process, signal.SIGKILL)


def _reap(children: dict[int, int]) -> None:
    """Forget children that ended. Until then their numbers are nobody else's."""
    for picture, process in list(children.items()):
        if os.waitpid(process, os.WNOHANG) != (0, 0):
            del children[picture]


def _fork(control: socket.socket, descriptor: int, orders: Orders, limit: int) -> int:
    process = os.fork()
    if process:
        return process
    try:
        control.close()
        _confine(orders.seconds, limit)
        with contextlib.suppress(Exception):
            # What the first picture reads for the first time here is copied, as each page of a fork: before it comes.
            orders.work.touch()
        _decode(socket.socket(fileno=descriptor), orders)
        os._exit(0)
    finally:
        os._exit(1)


def _confine(seconds: float, limit: int) -> None:
    """Bound this child's time and memory, and take from it what it has no need of."""
    gc.disable()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _control_process(_SET_DUMPABLE, 0)  # no core dump, which would hold a picture
    whole = int(seconds + _GRACE) + 1
    # No descriptor beyond those that are open: it can open no file, and no connection.
    limits = [(resource.RLIMIT_CPU, whole), (resource.RLIMIT_NOFILE, 0)]
    if sys.platform == "linux":  # others do not know how much they have
        limits.append((resource.RLIMIT_AS, limit))
    for name, value in limits:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(name, (value, value))


def _decode(connection: socket.socket, orders: Orders) -> None:
    request = connection.recv(REQUEST.size, socket.MSG_WAITALL)
    if len(request) < REQUEST.size:
        return  # no picture came
    signal.setitimer(signal.ITIMER_REAL, orders.seconds + _GRACE)
    connection.sendall(BEGUN)
    kind, length = REQUEST.unpack(request)
    image = connection.recv(length, socket.MSG_WAITALL)
    if len(image) == length:
        for part in framed(orders.work(kind, image)):
            connection.sendall(part)


def _address_space() -> int:
    """Bytes that this process has mapped; 0 where that is not known."""
    try:
        pages: Any = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()
