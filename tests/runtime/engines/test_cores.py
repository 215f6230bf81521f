"""Threads: what a process may use of the machine, read from made-up trees of /proc and /sys."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import runtime
from runtime.engines import cores, default_threads
from runtime.engines.cores import Cores, check_threads, find_cores, memory_limit

GIB = 1 << 30
SMT = {f"cpu{number}": f"{number % 4},{number % 4 + 4}" for number in range(8)}


def machine(root: Path, siblings: Mapping[str, str] = SMT, cgroup: str = "0::/", **files: str) -> Path:
    """A tree with the topology of each processor, the process's cgroup and the files of the mount (a__b is a/b)."""
    for cpu, listed in siblings.items():
        write(root / f"sys/devices/system/cpu/{cpu}/topology/thread_siblings_list", listed)
    write(root / "proc/self/cgroup", cgroup)
    for name, content in files.items():
        folder, _, file = name.rpartition("__")
        write(root / "sys/fs/cgroup" / folder.replace("__", "/") / file.replace("DOT", "."), content)
    return root


def write(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content + "\n")


@pytest.mark.parametrize(
    ("allowed", "physical"),
    [(range(8), 4), ({0, 4}, 1), ({0, 1}, 2), ({0, 4, 5}, 2), ({7}, 1)],
)
def test_siblings_count_once_and_only_those_allowed(tmp_path: Path, allowed: set[int], physical: int) -> None:
    found = find_cores(machine(tmp_path), allowed)
    assert (found.allowed, found.physical, found.threads) == (len(allowed), physical, physical)


def test_without_topology_every_processor_is_a_core(tmp_path: Path) -> None:
    assert find_cores(tmp_path, {0, 1, 5}).threads == 3


@pytest.mark.parametrize(
    ("cgroup", "files", "quota", "threads"),
    [
        ("0::/", {"cpuDOTmax": "max 100000"}, None, 4),
        ("0::/", {"cpuDOTmax": "250000 100000"}, 2.5, 2),
        ("0::/", {"cpuDOTmax": "50000 100000"}, 0.5, 1),
        ("0::/", {"cpuDOTmax": "3200000 100000"}, 32, 4),
        ("0::/a/b", {"a__cpuDOTmax": "300000 100000", "a__b__cpuDOTmax": "max 100000"}, 3, 3),
        ("0::/a/b", {"a__cpuDOTmax": "100000 100000", "a__b__cpuDOTmax": "300000 100000"}, 1, 1),
        ("0::/a/b", {"a__c__cpuDOTmax": "100000 100000"}, None, 4),
        ("0::/docker/of-the-host", {"cpuDOTmax": "200000 100000"}, 2, 2),
        ("0::/../../outside", {"cpuDOTmax": "200000 100000"}, 2, 2),
        (
            "5:cpu,cpuacct:/slice\n4:memory:/x\n0::/",
            {"cpu,cpuacct__slice__cpuDOTcfs_quota_us": "200000", "cpu,cpuacct__slice__cpuDOTcfs_period_us": "100000"},
            2,
            2,
        ),
        ("1:cpu:/", {"cpu__cpuDOTcfs_quota_us": "-1", "cpu__cpuDOTcfs_period_us": "100000"}, None, 4),
        ("1:cpu:/", {"cpu__cpuDOTcfs_quota_us": "50000", "cpu__cpuDOTcfs_period_us": "50000"}, 1, 1),
        ("0::/", {"cpuDOTmax": "nonsense"}, None, 4),
        ("nonsense", {}, None, 4),
    ],
)
def test_the_tightest_quota_on_the_way_up_counts(
    tmp_path: Path, cgroup: str, files: dict[str, str], quota: float | None, threads: int
) -> None:
    found = find_cores(machine(tmp_path, SMT, cgroup, **files), range(8))
    assert found.quota == quota
    assert found.threads == threads


@pytest.mark.parametrize(
    ("cgroup", "files", "limit"),
    [
        ("0::/", {"memoryDOTmax": "max"}, None),
        ("0::/a", {"memoryDOTmax": str(8 * GIB), "a__memoryDOTmax": str(2 * GIB)}, 2 * GIB),
        ("4:memory:/job", {"memory__job__memoryDOTlimit_in_bytes": str(3 * GIB)}, 3 * GIB),
        ("4:memory:/", {"memory__memoryDOTlimit_in_bytes": "9223372036854771712"}, None),
        ("", {}, None),
    ],
)
def test_the_memory_limit(tmp_path: Path, cgroup: str, files: dict[str, str], limit: int | None) -> None:
    assert memory_limit(machine(tmp_path, {}, cgroup, **files)) == limit


def test_this_machine() -> None:
    found = find_cores()
    assert 1 <= default_threads() == found.threads <= found.allowed <= found.logical


@pytest.mark.parametrize(("answers", "threads"), [({"hw.perflevel0.physicalcpu": "6"}, 6), ({}, 10)])
def test_other_systems_fall_back(monkeypatch: pytest.MonkeyPatch, answers: dict[str, str], threads: int) -> None:
    """macOS has performance cores; where sysctl says nothing, and on Windows, every processor counts."""
    import subprocess

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        if command[-1] not in answers:
            raise subprocess.CalledProcessError(1, command)
        return subprocess.CompletedProcess(command, 0, answers[command[-1]] + "\n", "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert find_cores().threads == threads
    monkeypatch.setattr(sys, "platform", "win32")
    assert find_cores() == Cores(10, 10, 10, None)


class TestCheckThreads:
    @pytest.fixture(autouse=True)
    def machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """16 processors, of which this process has 8, siblings in pairs, and time for 3.5."""
        monkeypatch.setattr(cores, "find_cores", lambda: Cores(16, 8, 4, 3.5))

    def test_none_takes_the_default(self) -> None:
        assert check_threads(None) == 3

    @pytest.mark.parametrize("threads", [1, 3, 4])
    def test_what_can_run_is_taken_in_silence(self, threads: int, caplog: pytest.LogCaptureFixture) -> None:
        assert check_threads(threads) == threads
        assert not caplog.records

    @pytest.mark.parametrize("threads", [5, 128])
    def test_too_many_are_taken_with_a_warning(self, threads: int, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "runtime"):
            assert check_threads(threads) == threads
        assert f"threads={threads}, but this process may use 4 processors" in caplog.text

    @pytest.mark.parametrize(
        ("threads", "message"),
        [
            (0, "threads=0; at least 1"),
            (-2, "threads=-2; at least 1"),
            (129, "threads=129; this machine has 16 processors and at most 128"),
            (1.5, "threads=1.5; a whole number"),
            ("2", "threads='2'; a whole number"),
        ],
    )
    def test_nonsense_is_refused(self, threads: int, message: str) -> None:
        with pytest.raises(runtime.InputError, match=message):
            check_threads(threads)
