"""Runs into a folder of parts that are killed, interrupted or stopped by a full disk, and resumed."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, System
from tests.runtime.archives import BAD_EVERY, contents, embed, rejects, write_reports

parquet = pytest.importorskip("pyarrow.parquet")

COMMAND = (sys.executable, "-m", "runtime", "embed", "--provider", "cpu")


def begin(bundle: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [*COMMAND, str(bundle), *map(str, arguments)]
    # A suite that was itself started in the background ignores SIGINT, and its children would inherit that.
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for_parts(process: subprocess.Popen[str], out: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(list(out.glob("part-*.parquet"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
def test_a_killed_run_is_resumed_to_the_same_bytes(tiny: System, tmp_path: Path) -> None:
    """Killed twice, at different places; what an uninterrupted run writes is the judge."""
    reports = write_reports(tmp_path / "reports.csv", 1500)
    arguments = (reports, "--column", "report", "--id-column", "study", "--part-rows", 10, "--out")
    out, whole = tmp_path / "out", tmp_path / "whole"
    for parts in (3, 20):
        process = begin(tiny.bundle, *arguments, out, "--resume")
        wait_for_parts(process, out, parts)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.communicate()
        assert len(list(out.glob("part-*.parquet"))) < 150, "it was done before it could be killed"
    (out / ".part-00099.parquet.partial-1").write_bytes(b"half")
    with (out / "_rejects.jsonl").open("ab") as stream:
        stream.write(b'{"id": "s9", "ind')
    assert embed(tiny.bundle, *arguments, out, "--resume") == 0
    assert embed(tiny.bundle, *arguments, whole) == 0
    assert contents(out) == contents(whole)
    assert [line["index"] for line in rejects(out)] == list(range(3, 1500, BAD_EVERY))
    assert parquet.read_table(out).num_rows == 1500 - len(rejects(out))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_keeps_its_parts_and_says_how_to_go_on(
    tiny: System, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    reports = write_reports(tmp_path / "reports.csv", 3000)
    out = tmp_path / "out"
    process = begin(tiny.bundle, reports, "--column", "report", "--out", out, "--part-rows", 10)
    wait_for_parts(process, out, 2)
    process.send_signal(number)
    _, message = process.communicate(timeout=60)
    assert process.returncode == status, message
    assert "with --resume goes on" in message
    assert "Traceback" not in message
    assert not list(out.glob(".*partial*"))
    parts = sorted(out.glob("part-*"))
    assert 2 <= len(parts) < 300
    assert sum(parquet.read_metadata(part).num_rows for part in parts) > 0


def test_a_full_disk_keeps_the_parts(tiny: System, tmp_path: Path) -> None:
    """A limit on the size of files stands in for it: the rejects grow beyond it, no part does."""
    rows = ["good", *["[SEP]"] * 999]
    (tmp_path / "a.txt").write_text("\n".join(rows * 2))
    out = tmp_path / "out"
    limit = 150_000
    process = subprocess.run(
        [*COMMAND, str(tiny.bundle), str(tmp_path / "a.txt"), "--out", str(out), "--part-rows", "100"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert process.returncode == 1
    assert "OSError" in process.stderr
    assert "too large" in process.stderr
    assert "Traceback" not in process.stderr
    done = len(list(out.glob("part-*")))
    assert f"Stopped with {done} parts" in process.stderr
    assert embed(tiny.bundle, tmp_path / "a.txt", "--out", out, "--part-rows", 100, "--resume") == 0
    assert [line["index"] for line in rejects(out)] == [index for index in range(2000) if index % 1000]
