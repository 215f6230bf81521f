"""Who meets a CLIP-like and in which cases, by its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench.peers import PEERS
from bench.peers.clip.loading import load_open_clip
from bench.workloads.contestants import choose, engines
from bench.workloads.field import FIELDS, known_peers, peers_of
from bench.workloads.operations import image_operations, token_operations
from bench.workloads.setting import QUICK, Setting, Size
from bench.workloads.table import WORKLOADS
from runtime.bundle import open_bundle
from tests.bench.workloads.test_workloads import operations
from tests.conftest import System

SMALL = Size(
    texts=4, batch=2, shapes=((1, 16), (1, 128)), files=1, pixels=(2,), corpus=(1,), starts=1, requests=10, images=2
)


def of(architecture: str | None, projection: str | None = None) -> SimpleNamespace:
    """As much of a bundle as decides."""
    image = None if architecture is None else SimpleNamespace(architecture=architecture)
    text = None if projection is None else SimpleNamespace(projection=projection)
    return SimpleNamespace(manifest=SimpleNamespace(image=image, text=text))


@pytest.mark.parametrize(
    ("architecture", "projection", "label"),
    [
        ("vit", "mlp", "transformers (PyTorch fp32)"),
        ("resnet50", "cxr-bert", "hi-ml-multimodal (PyTorch fp32)"),
        ("resnet50", None, "hi-ml-multimodal (PyTorch fp32)"),
        (None, "cxr-bert", "hi-ml-multimodal (PyTorch fp32)"),
        (None, "none", "upstream's classes (PyTorch fp32)"),
        ("resnet50", "linear", "upstream's classes (PyTorch fp32)"),
        ("resnet50+transformer", "cxr-bert", "upstream's classes (PyTorch fp32)"),
    ],
)
def test_the_manifest_chooses_the_peers(
    tmp_path: Path, architecture: str | None, projection: str | None, label: str
) -> None:
    assert peers_of(of(architecture, projection), tmp_path)[0].contestant.label == label


def test_the_layout_chooses_the_package(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text("{}")
    assert peers_of(of("vit"), tmp_path)[0].contestant.label == "open_clip (PyTorch fp32)"


@pytest.mark.parametrize("field", FIELDS)
def test_the_tables(field: str) -> None:
    entries = FIELDS[field]
    assert len({entry.name for entry in entries}) == len(entries)
    assert (entries[0].name, entries[0].contestant.kind) == ("reference", "reference")
    for entry in entries:
        # For files alone is who prepares images in another way.
        systems = {"images" if system == "files" else system for system in entry.systems}
        assert systems <= set(PEERS[entry.opener]), entry.name
        assert entry.contestant.note
    assert {entry.name for entry in entries} <= {entry.name for entry in known_peers()}


def test_packages_that_do_not_read_open_clips_files_say_so(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text("{}")
    chosen = {entry.name: entry for entry in choose(peers_of(of("vit"), tmp_path), [], full=True)}
    assert "transformers' files" in chosen["sentence-transformers-clip"].unavailable()
    assert "transformers-eager" not in chosen


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip", "biomedclip"])
def test_the_cases(clips: Mapping[str, System], tmp_path: Path, name: str) -> None:
    bundle = open_bundle(clips[name].bundle)
    entries = [*peers_of(bundle, clips[name].checkpoint), *engines(bundle, ("texts", "masks", "images", "joint"))]
    made = Setting(bundle, entries, SMALL, 2, 0, tmp_path)
    fitting = [each for each in WORKLOADS.values() if each.plans and each.fits(bundle)]
    plans = {plan.case.name: plan for each in fitting for plan in each.plans(made)}
    assert list(plans) == [
        "texts", "batch", "query", "shapes-1x16", "corpus-1", "threads-1", "threads-2", "pixels-2", "files", "labels",
    ]  # fmt: skip
    assert not WORKLOADS["manners"].fits(bundle), "tools are asked for masked words"
    longest = bundle.text_part().tokenization.max_length
    assert max(len(row) for row in made.tokenizer.encode(plans["texts"].given["texts"])) <= longest < 128
    pixels = np.load(plans["pixels-2"].given["pixels"])
    assert pixels.shape == (2, *bundle.image_part().preprocessing.shape)
    assert not np.array_equal(pixels[:, 0], pixels[:, 2]), "or the order of channels would not matter"
    labels = plans["labels"]
    assert (labels.system, len(labels.given["prompts"]), len(labels.given["prompts"][0])) == ("joint", 14, 2)
    assert labels.given["scale"] == bundle.manifest.joint.logit_scale
    assert labels.case.operations > image_operations(bundle) > 0


@pytest.mark.slow
def test_the_operations_of_a_picture_and_of_a_token(clips: Mapping[str, System]) -> None:
    """Counted where open_clip's own model computes them."""
    import torch

    system = clips["biomedclip"]
    model = load_open_clip(str(system.checkpoint)).model
    bundle = open_bundle(system.bundle)
    assert operations(model.visual, torch.zeros(1, 3, 224, 224)) == image_operations(bundle)
    encoder = model.text.transformer.encoder
    assert operations(encoder, torch.zeros(1, 50, model.text.config.hidden_size)) == 50 * token_operations(bundle)


def test_the_shapes_of_a_quick_run_fit_clip() -> None:
    assert sum(tokens <= 77 for _, tokens in QUICK.shapes) == 3
