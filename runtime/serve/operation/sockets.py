"""The sockets that the server listens on."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import os
import socket
import stat
import struct
import sys
from pathlib import Path
from typing import Any

from runtime.errors import InputError
from runtime.serve.operation.gate import is_loopback

__all__ = [
    "BACKLOG",
    "CONNECTING_SECONDS",
    "allow_open_files",
    "bind_tcp",
    "bind_unix",
    "let_none_connect",
    "loopback_only",
    "shown_address",
]

# Descriptors beside the connections': files, engines, child processes.
_BESIDE = 512
# Connections that wait to be accepted.
BACKLOG = 2048
CONNECTING_SECONDS = 0.05
_SO_ATTACH_FILTER = 26
# A filter of TCP segments (Linux, Documentation/networking/filter.rst): operation, jumps if true and false, value.
_DROP_CONNECTING = (
    (0x30, 0, 0, 13),  # the byte of flags
    (0x54, 0, 0, 0x12),  # of which SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone:
    (0x06, 0, 0, 0),  # nothing of it is taken,
    (0x06, 0, 0, 0xFFFFFFFF),  # of others everything
)
# localhost may have an IPv6 address where the system has no IPv6.
_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def loopback_only(host: str) -> bool:
    """Whether a host that is listened on is reached from this machine alone, whatever addresses its name has."""
    if is_loopback(host):
        return True
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM)}
    except OSError:
        return False
    return bool(host) and all(ipaddress.ip_address(each.partition("%")[0]).is_loopback for each in found)


def bind_tcp(host: str, port: int) -> list[socket.socket]:
    """Sockets on every address of a host, not yet listening.

    Raises:
        InputError: the address is taken, or is none of this machine's.
    """
    sockets: list[socket.socket] = []
    passed_over: OSError | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            if port == 0 and sockets:  # the same for all
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            try:
                sockets.append(_bound(socket.socket(family, kind, protocol), address))
            except OSError as error:
                if error.errno not in _NO_SUCH_FAMILY:
                    raise
                passed_over = error
        if not sockets:
            raise passed_over or OSError("it has no address")
    except OSError as error:
        for each in sockets:
            each.close()
        raise InputError(
            f"Cannot listen on {host}, port {port}: {error.strerror or error}. Choose another with --host and --port."
        ) from None
    return sockets


def _bound(opened: socket.socket, address: Any) -> socket.socket:
    try:
        if os.name == "posix":  # elsewhere it would share the port with others
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if opened.family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(address)
    except OSError:
        opened.close()
        raise
    opened.setblocking(False)
    return opened


def bind_unix(path: Path) -> socket.socket:
    """A Unix socket that the owner and the group may connect to, not yet listening; one that nobody serves is replaced.

    Raises:
        InputError: something else is there, or it cannot be made.
    """
    try:
        if path.exists() or path.is_symlink():
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise InputError(f"{path} is there and is no socket; it is left alone.")
            with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError):
                probe.connect(str(path))
                raise InputError(f"Another server answers on {path}.")
            path.unlink()
        opened = socket.socket(socket.AF_UNIX)
        before = os.umask(0o117)
        try:
            opened.bind(str(path))
        finally:
            os.umask(before)
    except OSError as error:
        raise InputError(f"Cannot listen on {path}: {error.strerror or error}.") from None
    opened.setblocking(False)
    return opened


def let_none_connect(listening: socket.socket) -> None:
    """Have the system drop requests to connect from now on, where it can, in all processes that share the socket.

    What has connected can still be accepted; what has begun to, after `CONNECTING_SECONDS`.
    What connects between the last accept and the closing of a socket is reset, though its client has sent a request.
    Dropped, a client tries again within a second, and meets who listens then, or a refusal. On Linux, for TCP.
    """
    if not sys.platform.startswith("linux") or listening.family not in (socket.AF_INET, socket.AF_INET6):
        return
    program = b"".join(struct.pack("=HBBI", *each) for each in _DROP_CONNECTING)
    held = ctypes.create_string_buffer(program, len(program))
    filter_program = struct.pack("@HP", len(_DROP_CONNECTING), ctypes.addressof(held))
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_program)


def shown_address(sockets: list[socket.socket]) -> str:
    """Where clients find the server: a URL, or a Unix socket's path."""
    first = sockets[0]
    if first.family not in (socket.AF_INET, socket.AF_INET6):
        return f"unix:{first.getsockname()}"
    host, port = first.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def allow_open_files(connections: int) -> None:
    """Raise this process's limit of open files, as far as it may, so that so many connections fit."""
    if os.name != "posix":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _BESIDE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
