"""What a process and its children write and whom they ask, as strace sees it."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# A question mark: not on every architecture.
_CALLS = (
    "?open,openat,?openat2,?creat,?mkdir,mkdirat,?rename,?renameat,?renameat2,?unlink,unlinkat,?rmdir,?link,linkat,"
    "?symlink,symlinkat,truncate,?mknod,mknodat,connect,sendto,sendmsg,sendmmsg"
)
_CALL = re.compile(r"^\d+ +(?P<name>[a-z0-9_]+)\((?P<arguments>.*)$")
# A folder that is open, as -y shows it, and the path that the call names in it.
_PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<(?P<folder>[^>]*)>, )?"(?P<path>(?:[^"\\]|\\.)*)"')
_WRITING = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND")
# Devices and the kernel's own files; threads' semaphores lie in /dev/shm.
_NO_FILES = ("/dev", "/proc", "/sys")


@dataclass(frozen=True)
class Trace:
    """What was seen.

    Attributes:
        writes: absolute paths that a call tried to make, change or remove, whether it succeeded or not.
        contacts: calls that named an address of the internet, that of a name server included.
        process: how it ended, with what it printed.
    """

    writes: frozenset[Path]
    contacts: tuple[str, ...]
    process: subprocess.CompletedProcess[str]


@functools.cache
def why_not() -> str:
    """Why nothing can be traced here, or ""."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-f", "true"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.strip()[-200:]}"


@functools.cache
def _quick() -> tuple[str, ...]:
    """The option with which other calls than those looked for do not stop a process, where strace has it."""
    command = ["strace", "-f", "--seccomp-bpf", "-e", "trace=openat", "true"]
    tried = subprocess.run(command, capture_output=True, check=False)
    return ("--seccomp-bpf",) if tried.returncode == 0 else ()


def trace(command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path) -> Trace:
    """Run a command in a folder.

    Args:
        command: program and arguments.
        log: file for what strace writes.
        environment: all of its variables.
        folder: where it runs.
    """
    strace = ["strace", "-f", *_quick(), "-y", "-s", "400", "-e", f"trace={_CALLS}", "-o", str(log)]
    process = subprocess.run(
        [*strace, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    writes: set[Path] = set()
    contacts: list[str] = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        called = _CALL.match(line)
        if called is None:  # the end of a call, a signal or an exit
            continue
        name, arguments = called["name"], called["arguments"]
        if name in ("connect", "sendto", "sendmsg", "sendmmsg"):
            if "sa_family=AF_INET" in arguments:  # AF_INET6 as well
                contacts.append(line)
        elif not name.startswith("open") or any(flag in arguments for flag in _WRITING):
            writes.update(_paths(arguments, folder))
    return Trace(frozenset(writes), tuple(contacts), process)


def _paths(arguments: str, start: Path) -> list[Path]:
    found = [Path(each["folder"] or start, each["path"]) for each in _PATH.finditer(arguments)]
    return [path for path in found if not str(path).startswith(_NO_FILES)]
