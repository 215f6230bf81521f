"""Contestants that need the real network's size give the reference's embeddings of images, and its probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.measuring import Entry
from bench.peers import PEERS, torch_images
from bench.record.gates import judge
from bench.workloads.contestants import engines, peers
from export.samples import chest_phantom
from runtime.bundle import open_bundle
from tests.conftest import System

pytestmark = pytest.mark.slow

CHOSEN = ("reference", "torch-fp32", "torch-bf16", "onnxruntime", "openvino-fp32", "engine-cpu-fp32")
PROMPTS = [["edema", "There is edema", "No edema"], ["nodule", "A nodule!", "No nodule"]]


def test_images_and_probabilities(full: System, tmp_path: Path) -> None:
    paths = []
    for index, size in enumerate(((701, 533), (480, 600), (520, 700))):
        paths.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(chest_phantom(*size, index)).save(paths[-1])
    np.save(tmp_path / "pixels.npy", np.stack([chest_phantom(480, 480, index) for index in range(2)]))
    cases = {
        "images": {"images": paths},
        "pixels": {"pixels": str(tmp_path / "pixels.npy")},
        "joint": {"image": paths[0], "prompts": PROMPTS},
    }
    table = {
        entry.name: entry for entry in [*peers(), *engines(open_bundle(full.bundle), ("texts", "images", "joint"))]
    }
    expected: dict[str, np.ndarray] = {}
    for name in CHOSEN:
        entry = table.get(name)
        if entry is None or entry.unavailable():
            continue
        for case, given in cases.items():
            answer = answered(full, entry, "joint" if case == "joint" else "images", given)
            system = "joint" if case == "joint" else "images"
            judgement = judge(system, answer, expected.setdefault(case, answer), entry.contestant.precision)
            assert judgement.wrong == "", (name, case)
    assert [len(answer) for answer in expected.values()] == [3, 2, 1]
    swapped = expected["images"][::-1]
    # Phantoms through random weights are alike: their mean cosine is within int8's gate.
    assert judge("images", swapped, expected["images"], "bf16").wrong, "a negative control"


def test_files_decoded_ahead_keep_their_order(full: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, with the processor in its place."""
    paths = []
    for index in range(3):
        paths.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(chest_phantom(500, 490, index)).save(paths[-1])
    table = {entry.name: entry for entry in peers()}
    one_by_one = answered(full, table["torch-fp32"], "images", {"images": paths})
    monkeypatch.setattr(torch_images, "PROCESSOR", "something else")
    ahead = answered(full, table["torch-fp32-gpu"], "images", {"images": paths}, device="cpu", images=2)
    assert np.abs(one_by_one - ahead).max() <= 1e-5 < np.abs(one_by_one - ahead[::-1]).max()


def answered(full: System, entry: Entry, system: str, given: dict[str, object], **told: object) -> np.ndarray:
    spec = {
        "bundle": str(full.bundle),
        "checkpoint": str(full.checkpoint),
        "threads": 2,
        "precision": entry.contestant.precision,
        **entry.told,
        **told,
    }
    return PEERS[entry.opener][system](spec)(given)()
