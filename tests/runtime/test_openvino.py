"""OpenVINO sessions under several threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino")

# Without the use of Tensor.data in the constructor about a third of such processes hung.
FIRST_CALLS_TOGETHER = """
import sys, threading
from pathlib import Path
import numpy as np
from runtime.openvino_session import OpenVinoSession
from runtime.probe import MODEL
from runtime.session import SessionOptions
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


def test_threads_that_come_first_together_do_not_wait_for_each_other(tmp_path: Path) -> None:
    for round in range(6):
        command = [sys.executable, "-c", FIRST_CALLS_TOGETHER, str(tmp_path / f"{round}.onnx")]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert finished.stdout.strip() == "done"
