"""How many threads should compute: what this process may use of the machine, and no more."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from runtime.errors import InputError
from runtime.process import shown
from runtime.process.checks import whole_number

__all__ = ["Cores", "check_threads", "default_threads", "find_cores", "memory_limit"]

_LOG = logging.getLogger("runtime")
_ROOT = Path("/")
# More threads than this per processor are a slip of the keyboard.
_MOST_PER_PROCESSOR = 8
# What cgroup v1 says where there is no limit: the largest multiple of a page.
_NO_LIMIT_BYTES = 1 << 60


@dataclass(frozen=True)
class Cores:
    """The processors of this machine and this process's share of them.

    Attributes:
        logical: processors of the machine, SMT siblings counted.
        allowed: those that this process may run on (its CPU affinity).
        physical: cores that these belong to.
        quota: processors' worth of time that its cgroup grants, such as 1.5; None where there is no such limit.
    """

    logical: int
    allowed: int
    physical: int
    quota: float | None

    @property
    def threads(self) -> int:
        """Threads that compute fastest.

        One for each physical core, since siblings share the units that multiply matrices. A quota is rounded down: the
        thread too many would be stopped in every period, and the others wait for it (a quota of 1.5, BERT-base, 4 × 32
        tokens, ONNX Runtime: 620 ms with 1 thread, 910 with 2).
        """
        granted = self.physical if self.quota is None else min(self.physical, math.floor(self.quota))
        return max(1, granted)

    @property
    def most(self) -> int:
        """Threads that can run at the same time."""
        return self.allowed if self.quota is None else min(self.allowed, max(1, math.ceil(self.quota)))


def default_threads() -> int:
    """Threads that a session computes with unless told otherwise, at least 1."""
    return find_cores().threads


def check_threads(threads: int | None) -> int:
    """The number of threads to compute with.

    Args:
        threads: what the caller asked for; None takes `default_threads()`. More than can run at the same time are
            accepted with a warning of the logger "runtime": they slow each other down.

    Raises:
        InputError: no whole number, less than 1, or more than 8 for each processor of the machine.
    """
    cores = find_cores()
    if threads is None:
        return cores.threads
    count = whole_number("threads", threads, least=None, instead=", or None for all processors")
    if count < 1:
        raise InputError(f"threads={shown(count)}; at least 1 is expected, or None for all processors.")
    bound = _MOST_PER_PROCESSOR * cores.logical
    if count > bound:
        raise InputError(
            f"threads={shown(count)}; this machine has {cores.logical} processors and at most {bound} threads are "
            f"accepted. None takes the fastest number, {cores.threads}."
        )
    if count > cores.most:
        _LOG.warning(
            "threads=%d, but this process may use %d processors: more threads than that slow each other down. "
            "None takes the fastest number, %d.",
            count,
            cores.most,
            cores.threads,
        )
    return count


def find_cores(root: Path = _ROOT, allowed: Iterable[int] | None = None) -> Cores:
    """Look at this process's CPU affinity, the cores' topology and the CPU quota of its cgroup.

    Elsewhere than on Linux there are no quotas; Windows does not tell cores from siblings here.

    Args:
        root: folder that has proc and sys.
        allowed: numbers of the processors that the process may run on; None asks the system.
    """
    logical = os.cpu_count() or 1
    if allowed is None:
        if not hasattr(os, "sched_getaffinity"):
            return Cores(logical, logical, _mac_cores() or logical, None)
        allowed = os.sched_getaffinity(0)
    usable = frozenset(allowed)
    topology = root / "sys/devices/system/cpu"
    cores = {_read(topology / f"cpu{number}/topology/thread_siblings_list") or f"cpu{number}" for number in usable}
    return Cores(max(logical, len(usable)), len(usable), len(cores), _quota(root))


def memory_limit(root: Path = _ROOT) -> int | None:
    """Bytes of memory that this process's cgroup grants; None where there is no limit."""
    limits = [
        int(text)
        for text in _cgroup_files(root, "memory", "memory.max", "memory.limit_in_bytes")
        if text.isdigit() and int(text) < _NO_LIMIT_BYTES
    ]
    return min(limits, default=None)


def _mac_cores() -> int | None:
    if sys.platform != "darwin":
        return None
    # Efficiency cores would keep the performance cores waiting.
    for name in ("hw.perflevel0.physicalcpu", "hw.physicalcpu"):
        try:
            command = ["/usr/sbin/sysctl", "-n", name]
            return int(subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout)
        except (OSError, ValueError, subprocess.SubprocessError):
            continue
    return None


def _quota(root: Path) -> float | None:
    """The tightest quota among the process's cgroup and its parents: each of them limits it."""
    periods = list(_cgroup_files(root, "cpu", "cpu.max", None))
    for quota, period in zip(
        _cgroup_files(root, "cpu", None, "cpu.cfs_quota_us"),
        _cgroup_files(root, "cpu", None, "cpu.cfs_period_us"),
        strict=False,
    ):
        periods.append(f"{quota} {period}")
    quotas = []
    for text in periods:
        granted, _, period = text.partition(" ")
        if granted.isdigit() and period.isdigit() and int(granted) > 0 and int(period) > 0:
            quotas.append(int(granted) / int(period))
    return min(quotas, default=None)


def _cgroup_files(root: Path, controller: str, v2: str | None, v1: str | None) -> Iterator[str]:
    """Contents of a limit's file in the process's cgroup and in each of its parents, for cgroup v2 and v1."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        if hierarchy == "0" and not controllers:
            name, mounts = v2, [mount, mount / "unified"]
        elif controller in controllers.split(","):
            name, mounts = v1, [mount / controllers, mount / controller]
        else:
            continue
        if name is None:
            continue
        top = next((folder for folder in mounts if folder.is_dir()), None)
        if top is None:
            continue
        # In a container the path may be the host's, which is not there: then the mount itself is the container's.
        parts = [part for part in PurePosixPath(place).parts if part not in ("/", "..")]
        for depth in range(len(parts), -1, -1):
            text = _read(top.joinpath(*parts[:depth], name))
            if text:
                yield text


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
