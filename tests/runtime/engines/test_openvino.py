"""OpenVINO sessions under several threads, and the cache of compiled models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runtime.engines import SessionOptions, openvino_cache
from runtime.engines.openvino_session import OpenVinoSession
from runtime.engines.probe import INPUT, MODEL, OUTPUT

pytest.importorskip("openvino")

# Without the use of Tensor.data in the constructor about a third of such processes hung.
FIRST_CALLS_TOGETHER = """
import sys, threading
from pathlib import Path
import numpy as np
from runtime.engines.openvino_session import OpenVinoSession
from runtime.engines.probe import MODEL
from runtime.engines import SessionOptions
sys.setswitchinterval(1e-6)
path = Path(sys.argv[1])
path.write_bytes(MODEL)
session = OpenVinoSession(path, SessionOptions(8, "fp32", streams=8))
start = threading.Barrier(8)
def first():
    start.wait()
    session.run(["y"], {"x": np.ones((1, 2), np.float32)})
threads = [threading.Thread(target=first) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print("done")
"""

# The main thread's stack for signals was OpenVINO's, which another thread unmapped with the last session.
LET_GO_BY_ANOTHER_THREAD = """
import os, signal, sys, threading
from pathlib import Path
from runtime.engines.openvino_session import OpenVinoSession
from runtime.engines.probe import MODEL
from runtime.engines import SessionOptions
path = Path(sys.argv[1])
path.write_bytes(MODEL)
sessions = [OpenVinoSession(path, SessionOptions(1, "fp32"))]
thread = threading.Thread(target=sessions.clear)
thread.start()
thread.join()
signal.signal(signal.SIGTERM, lambda *_: print("handled", flush=True))
os.kill(os.getpid(), signal.SIGTERM)
print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signals")
def test_a_signal_is_handled_after_another_thread_let_go_of_the_last_session(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LET_GO_BY_ANOTHER_THREAD, str(tmp_path / "model.onnx")]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (finished.returncode, finished.stdout.split()) == (0, ["handled", "done"]), finished.stderr


@pytest.mark.slow
def test_threads_that_come_first_together_do_not_wait_for_each_other(tmp_path: Path) -> None:
    for round in range(6):
        command = [sys.executable, "-c", FIRST_CALLS_TOGETHER, str(tmp_path / f"{round}.onnx")]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert finished.stdout.strip() == "done"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CXR_ENGINE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "model.onnx"
    path.write_bytes(MODEL)
    return path


def kept(model: Path) -> list[Path]:
    return sorted((model.parent / "cache" / "openvino").glob("*.blob"))


def answers(model: Path, digest: str | None = "a", **options) -> bool:
    session = OpenVinoSession(model, SessionOptions(2, "fp32", digest=digest, **options))
    (found,) = session.run(["y"], {"x": np.array(INPUT, np.float32)})
    return np.array_equal(found, np.array(OUTPUT, np.float32))


def test_a_compiled_model_is_taken_for_any_number_of_streams(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answers(model)
    (file,) = kept(model)
    monkeypatch.setattr(openvino_cache, "_store", lambda *_: pytest.fail("compiled again"))
    for options in ({}, {"streams": 2}, {"share": True}):
        assert answers(model, **options)
    assert kept(model) == [file]


def test_other_graphs_and_precisions_are_compiled_themselves(model: Path) -> None:
    assert answers(model)
    assert answers(model, "b")
    OpenVinoSession(model, SessionOptions(2, "bf16", digest="a"))
    assert len(kept(model)) == 3
    assert answers(model, None)
    assert len(kept(model)) == 3


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_file_is_made_anew_with_a_notice(model: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    assert answers(model)
    (file,) = kept(model)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes({"cut": content[:100], "changed": content, "empty": b""}[damage])
    assert answers(model)
    assert "is damaged and is made anew" in caplog.text
    assert len(kept(model)) == 1
    caplog.clear()
    assert answers(model)
    assert not caplog.text


def test_a_folder_that_cannot_be_written_is_none(model: Path, tmp_path: Path, monkeypatch, caplog) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CXR_ENGINE_CACHE", str(tmp_path / "file"))
    assert answers(model)


def test_a_full_disk_is_only_a_notice(model: Path, monkeypatch, caplog) -> None:
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(openvino_cache, "_store", full)
    assert answers(model)
    assert "No space left on device" in caplog.text


def test_what_was_used_longest_ago_goes_first(model: Path, monkeypatch) -> None:
    import os

    for digest in "abc":
        assert answers(model, digest)
    oldest, *others = sorted(kept(model), key=lambda file: file.stat().st_mtime_ns)
    for age, file in enumerate((*others, oldest)):
        os.utime(file, (1000 - age, 1000 - age))
    monkeypatch.setattr(openvino_cache, "_MOST", sum(file.stat().st_size for file in kept(model)) + 10)
    assert answers(model, "d")
    assert oldest not in kept(model)
    assert set(others) < set(kept(model))
