"""Peers of CLIP-likes answer as the package does whose layout the checkpoint has."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.errors import PeerError
from bench.measuring import Entry
from bench.peers import PEERS
from bench.peers.clip.conversion import write_open_clip
from bench.peers.clip.loading import Loaded, load_open_clip, load_transformers
from bench.peers.clip.making import made
from bench.peers.contract import relative_cosines
from bench.record.gates import judge
from bench.workloads.contestants import engines
from bench.workloads.field import peers_of
from runtime.bundle import open_bundle
from tests.conftest import System
from tests.export.families.clips import write_clip

TEXTS = ["No effusion.", "small left pleural effusion " * 30, "Clear lungs", "2.5 cm  nodule", "No consolidation"]
LABELS = [["edema", "there is edema"], ["none", "no finding at all"], ["nodule", "a nodule of 3 mm"]]


def picture(seed: int) -> Image.Image:
    """In colours, of a shape that is resized and cropped."""
    drawn = np.random.default_rng(seed).integers(0, 256, (23, 17 + seed, 3)).astype(np.uint8)
    return Image.fromarray(drawn).resize((280 + 10 * seed, 300), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_open_clip_computes_the_weights_of_transformers(tmp_path: Path, activation: str) -> None:
    """The activation is the negative control: where it is another one than the file says, embeddings are others."""
    checkpoint = write_clip(tmp_path / "checkpoint", activation=activation)
    (tmp_path / "converted").mkdir()
    write_open_clip(str(checkpoint), tmp_path / "converted")
    upstream, converted = load_transformers(str(checkpoint)), load_open_clip(str(tmp_path / "converted"))
    expected, found = both(upstream), both(converted)
    assert max(np.abs(one - other).max() for one, other in zip(expected, found, strict=True)) <= 1e-5
    config = tmp_path / "converted" / "open_clip_config.json"
    before, after = ("true", "false") if activation == "quick_gelu" else ("false", "true")
    swapped = config.read_text().replace(f'"quick_gelu": {before}', f'"quick_gelu": {after}')
    assert swapped != config.read_text()
    config.write_text(swapped)
    load_open_clip.cache_clear()
    wrong = both(load_open_clip(str(tmp_path / "converted")))
    assert min(np.abs(one - other).max() for one, other in zip(expected, wrong, strict=True)) > 1e-4


def both(loaded: Loaded) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of the texts and of two pictures, unit norm."""
    pixels = torch.stack([loaded.transform(picture(seed)) for seed in range(2)])
    with torch.inference_mode():
        found = loaded.embed_texts(**loaded.inputs(TEXTS)), loaded.embed_images(pixels)
    texts, images = (torch.nn.functional.normalize(each, dim=-1).numpy() for each in found)
    return texts, images


def test_the_cosines_that_probabilities_stand_for() -> None:
    cosines = np.array([[0.31, -0.2, 0.05, 0.3]])
    powers = np.exp(100 * cosines)
    found = relative_cosines((powers / powers.sum()).astype(np.float32), 100)
    assert np.abs(found - (cosines - cosines.mean())).max() <= 1e-6


def test_what_cannot_be_made_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    spec = {
        "checkpoint": str(tmp_path / "empty"), "bundle": str(tmp_path), "made": str(tmp_path / "made"),
        "python": sys.executable,
    }  # fmt: skip
    with pytest.raises(PeerError, match=r"'open-clip' cannot be made of .*empty: (.|\n)*no file named model"):
        made(spec, "open-clip")
    assert not (tmp_path / "made" / "open-clip").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip", "biomedclip"])
def test_every_contestant_gives_the_references_answers(clips: Mapping[str, System], tmp_path: Path, name: str) -> None:
    """torch.compile takes a minute and is left to real runs; fp16 is for a GPU."""
    system = clips[name]
    bundle = open_bundle(system.bundle)
    joint = bundle.manifest.joint
    assert joint is not None
    for seed in range(2):
        picture(seed).save(tmp_path / f"{seed}.png")
    shape = bundle.image_part().preprocessing.shape
    np.save(tmp_path / "pixels.npy", np.random.default_rng(0).integers(0, 256, (3, *shape)).astype(np.uint8))
    paths = [str(tmp_path / f"{seed}.png") for seed in range(2)]
    cases = {
        "texts": {"texts": TEXTS},
        "images": {"images": paths},
        "pixels": {"pixels": str(tmp_path / "pixels.npy")},
        "joint": {"image": paths[0], "prompts": LABELS, "scale": joint.logit_scale},
    }
    entries = [*peers_of(bundle, system.checkpoint), *engines(bundle, ("texts", "images", "joint"))]
    expected: dict[str, np.ndarray] = {}
    measured = set()
    for entry in entries:
        if entry.foreign or entry.on_gpu or entry.unavailable() or "compile" in entry.name:
            continue
        for case, given in cases.items():
            kind = "images" if case == "pixels" else case
            answer = PEERS[entry.opener][kind](told(system, entry, tmp_path / "made"))(given)()
            judgement = judge(kind, answer, expected.setdefault(case, answer), entry.contestant.precision)
            assert judgement.wrong == "", (entry.name, case)
            assert len(answer) == {"texts": 5, "images": 2, "pixels": 3, "joint": 1}[case]
        measured.add(entry.name)
        load_transformers.cache_clear()  # what was made bf16
        load_open_clip.cache_clear()
    assert {"reference", "torch-fp32", "torch-bf16", "exported-onnxruntime", "engine-cpu-fp32"} <= measured
    assert judge("texts", expected["texts"][::-1], expected["texts"], "bf16").wrong, "a negative control"
    assert judge("images", expected["pixels"][::-1], expected["pixels"], "bf16").wrong, "another"
    assert judge("joint", expected["joint"][:, ::-1], expected["joint"], "fp32").wrong, "a third"


def told(system: System, entry: Entry, folder: Path) -> dict[str, object]:
    return {
        "bundle": str(system.bundle),
        "checkpoint": str(system.checkpoint),
        "threads": 1,
        "precision": entry.contestant.precision,
        "made": str(folder),
        "python": sys.executable,
        **entry.told,
    }
