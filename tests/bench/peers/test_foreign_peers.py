"""Peers of the environment of `make peers` answer as this engine does in fp32."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import runtime
from bench.peers.bert import FOREIGN_BERT
from bench.peers.foreign import FOREIGN
from bench.record.gates import judge
from tests.conftest import ROOT, System

TEXTS = ["No pleural effusion.", "Pneumonia", "", "Small effusion!?", "There is no pneumothorax and no fracture. " * 9]
# Of the tiny vocabulary; the last full stop counts.
MASKED = ["Moderate [MASK] pleural effusion", "[MASK] heart size.", "There is [MASK] pneumothorax. No fracture."]
CODE = """
import json, sys
import numpy as np
from bench.peers import PEERS
told = json.load(open(sys.argv[1]))
run = PEERS[told["peer"]][told["system"]](told)({"texts": told["texts"]})
run()
np.save(told["answer"], run())
"""


@pytest.fixture(scope="module")
def python() -> str:
    from bench.measuring.entry import peers_python

    found = peers_python()
    if not found:
        pytest.skip("the environment of make peers is not there (or set CXR_PEERS_PYTHON)")
    return found


def answer(python: str, tiny: System, tmp_path: Path, peer: str, system: str, texts: list[str]) -> np.ndarray:
    file, request = tmp_path / "answer.npy", tmp_path / "request.json"
    told = {"peer": peer, "system": system, "texts": texts, "answer": str(file), "threads": 1}
    told |= {"made": str(tiny.checkpoint.parent / "made-foreign"), "python": sys.executable}
    request.write_text(json.dumps({**told, "bundle": str(tiny.bundle), "checkpoint": str(tiny.checkpoint)}))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    command = [python, "-c", CODE, str(request)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return np.load(file)


@pytest.mark.parametrize("peer", FOREIGN)
def test_embeddings_are_those_of_this_engine(python: str, tiny: System, tmp_path: Path, peer: str) -> None:
    expected = runtime.load(tiny.bundle, provider="cpu", precision="fp32", parts=["text"]).text.encode(TEXTS)
    found = answer(python, tiny, tmp_path, peer, "texts", TEXTS)
    assert (found.shape, found.dtype) == (expected.shape, np.float32)
    assert np.abs(found - expected).max() <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("peer", FOREIGN_BERT)
def test_their_int8_is_near_this_engines_fp32(python: str, tiny: System, tmp_path: Path, peer: str) -> None:
    """As the tools' documentation makes it; in the order given, and not the same in fp32."""
    expected = runtime.load(tiny.bundle, provider="cpu", precision="fp32", parts=["text"]).text.encode(TEXTS)
    found = answer(python, tiny, tmp_path, peer, "texts", TEXTS)
    assert (found.shape, found.dtype) == (expected.shape, np.float32)
    assert judge("texts", found, expected, "int8").wrong == ""
    assert np.abs(found - expected).max() > 1e-5
    assert np.abs(found - expected).mean() < np.abs(found[::-1] - expected)[[0, 1, 3, 4]].mean()


def test_optimum_fills_masks_as_this_engine_does(python: str, tiny: System, tmp_path: Path) -> None:
    filled = runtime.load(tiny.bundle, provider="cpu", precision="fp32", parts=["text"]).text.fill_mask(MASKED)
    expected = np.array([[*(each["token"] for each in one), *(each["score"] for each in one)] for one in filled])
    found = answer(python, tiny, tmp_path, "optimum", "masks", MASKED)
    assert np.array_equal(found[:, :5], expected[:, :5])
    assert np.abs(found[:, 5:] - expected[:, 5:]).max() <= 1e-5
