"""Systems that differ from BioViL in data alone: RGB, other sizes, mean and std, no patches; exported and executed."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPImageProcessorPil

import runtime
from export.build import CalibrationSources, export_bundle
from export.checkpoints import read_tensors
from export.checkpoints.random_checkpoint import write_random_checkpoint
from export.families import Family
from export.precision import Lowering
from export.proof import verify
from export.proof.pixel_parity import pixel_parity, preprocessor_config
from export.reference import build_image_model
from runtime.bundle import open_bundle
from runtime.bundle.parts import Preprocessing
from runtime.errors import BundleError
from runtime.image import resizing
from runtime.image.images import load_pixels
from tests.conftest import tiny_family

CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
RULE = Preprocessing("rgb", "shortest", 70, "bicubic", 64, "down", *CLIP)


def family_of(rule: Preprocessing, **changed: object) -> Family:
    family = tiny_family("biovil-image")
    return replace(family, name="rules", image=replace(family.image, preprocessing=rule, **changed))


def coloured(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width)
    small = Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Checkpoint and bundle, in fp32, fp16 and int8."""
    folder = tmp_path_factory.mktemp("rules")
    family = family_of(RULE)
    checkpoint = write_random_checkpoint(folder / "checkpoint", family, 5)
    few = CalibrationSources(images_count=16, images_held_out=8)
    lowering = Lowering(("fp32", "fp16", "int8"), enforced=False)
    export_bundle(family, str(checkpoint), folder / "bundle", lowering=lowering, calibration=few)
    return checkpoint, folder / "bundle"


@pytest.mark.slow
def test_pixels_and_embeddings_are_those_of_transformers_and_of_the_model(exported: tuple[Path, Path]) -> None:
    """From picture to embedding without a line of this project: transformers' processor, hi-ml's model."""
    checkpoint, bundle = exported
    image = family_of(RULE).image
    model = build_image_model(image).eval()
    model.load_state_dict(read_tensors(checkpoint / image.weights_name))
    processor = CLIPImageProcessorPil(size={"shortest_edge": 70}, crop_size={"height": 64, "width": 64})
    pictures = [coloured(101, 77), coloured(70, 93), coloured(300, 200)]
    channels = torch.from_numpy(np.stack(processor(pictures)["pixel_values"]))
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(model(channels).projected_global_embedding, dim=-1).numpy()
    patches = model.get_patchwise_projected_embeddings(channels, normalize=True).numpy()
    for provider in ("cpu", "openvino"):
        engine = runtime.load(bundle, provider=provider, precision="fp32")
        assert np.abs(engine.image.encode(pictures) - expected).max() < 1e-5
        assert np.abs(engine.image.encode_patches(pictures) - patches).max() < 1e-5
    wrong = CLIPImageProcessorPil(size={"shortest_edge": 70}, crop_size={"height": 64, "width": 64}, do_normalize=False)
    with torch.inference_mode():
        other = model(torch.from_numpy(np.stack(wrong(pictures)["pixel_values"]))).projected_global_embedding
    other = torch.nn.functional.normalize(other, dim=-1).numpy()
    assert np.abs(other - expected).max() > 1e-3, "mean and std count"


@pytest.mark.slow
def test_the_manifest_and_the_processors_file_say_the_rule(exported: tuple[Path, Path]) -> None:
    _, bundle = exported
    part = open_bundle(bundle).image_part()
    assert (part.preprocessing, part.architecture, part.images, part.grid) == (RULE, "resnet50", 1, 2)
    assert {tuple(each.inputs[0].axes) for each in part.artifacts} == {("batch", 3, 64, 64)}
    assert {each.inputs[0].dtype for each in part.artifacts} == {"uint8"}
    written = json.loads((bundle / "image" / "preprocessor_config.json").read_text(encoding="utf-8"))
    assert written == preprocessor_config(RULE)
    pictures = [coloured(101, 77), coloured(70, 93)]
    processor = CLIPImageProcessorPil.from_dict(written)
    engine = runtime.load(bundle, provider="cpu", precision="fp32")
    pixels = np.stack(processor(pictures)["pixel_values"])
    assert np.array_equal(pixels, np.stack([each.pixels for each in engine.image.load(pictures)[0]]))
    fast = np.stack(CLIPImageProcessor.from_dict(written)(pictures, return_tensors="np")["pixel_values"])
    assert not np.array_equal(fast, pixels), "its torchvision backend has another bicubic filter, and is no reference"


@pytest.mark.slow
def test_lower_precisions_and_verification_take_colours(exported: tuple[Path, Path]) -> None:
    _, bundle = exported
    artifacts = {each.precision: each for each in open_bundle(bundle).image_part().artifacts}
    assert set(artifacts) == {"fp32", "fp16", "int8"}
    figures = artifacts["int8"].fidelity[0].figures
    assert figures["mean_cosine"] > 0.9
    assert figures["mean_patch_cosine"] > 0.9
    found = verify.verify_bundle(bundle, provider="cpu")
    assert {each.found.precision for each in found} >= {"fp32", "int8"}


@pytest.mark.slow
def test_a_tower_without_patches(tmp_path: Path) -> None:
    family = family_of(replace(RULE, mean=(0.0,), std=(1.0,), colours="grey", resize="squash"), patch=None)
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint", family, 6)
    few = CalibrationSources(images_count=16, images_held_out=8)
    lowering = Lowering(("fp32", "fp16"), enforced=False)
    manifest = export_bundle(family, str(checkpoint), tmp_path / "bundle", lowering=lowering, calibration=few)
    assert manifest.image.grid is None
    artifact = manifest.image.artifacts[0]
    assert [each.name for each in artifact.outputs] == ["image_embeds"]
    assert set(artifact.parity[0].figures) == {"max_abs", "min_cosine"}
    assert "mean_patch_cosine" not in artifact.fidelity[0].figures
    assert verify.verify_bundle(tmp_path / "bundle", provider="cpu")
    engine = runtime.load(tmp_path / "bundle", provider="cpu", precision="fp32")
    assert engine.image.encode([coloured(90, 70)]).shape == (1, 128)
    with pytest.raises(BundleError, match="embeds no patches"):
        engine.image.encode_patches([coloured(90, 70)])


@pytest.mark.parametrize("colours", ["grey", "rgb"])
@pytest.mark.parametrize("resize", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("crop_rounding", ["even", "down"])
def test_the_gate_of_pixels_knows_every_rule(
    monkeypatch: pytest.MonkeyPatch, colours: str, resize: str, crop_rounding: str
) -> None:
    rule = replace(RULE, colours=colours, resize=resize, crop_rounding=crop_rounding, crop=61)
    record = pixel_parity(rule)
    assert record.figures == {"differing": 0.0}
    assert record.gates == {"differing": 0.0}
    assert ("transformers" in record.reference) == (crop_rounding == "down")
    another = partial(resizing._by_pillow, Image.Resampling.HAMMING)
    monkeypatch.setattr(resizing, "_FILTERS", {"bicubic": another})
    assert pixel_parity(rule).figures["differing"] == (14 if colours == "grey" else 21), "negative control"


def test_pictures_become_rgb_after_resizing_as_in_open_clip() -> None:
    """Transparency is resized, too, and palettes are without a filter."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    rule = replace(RULE, colours="rgb after resizing", size=64, crop_rounding="even")
    transform = image_transform_v2(PreprocessCfg(64, mean=(0, 0, 0), std=(1, 1, 1)), is_train=False)
    clear = coloured(101, 77)
    clear.putalpha(Image.fromarray(np.random.default_rng(0).integers(0, 256, (77, 101), dtype=np.uint8)))
    given = [coloured(90, 150), clear, coloured(80, 66).quantize(16), coloured(70, 71).convert("CMYK")]
    given += [coloured(64, 64).convert("L"), coloured(64, 80).convert("LA"), coloured(99, 64).convert("1")]
    for image in given:
        (found,), _ = load_pixels([image], rule)
        expected = (transform(image).numpy() * 255).round().astype(np.uint8)
        assert np.array_equal(found.pixels, expected), image.mode
    before = replace(rule, colours="rgb")
    assert not np.array_equal(load_pixels([clear], before)[0][0].pixels, load_pixels([clear], rule)[0][0].pixels)
    assert pixel_parity(rule).figures == {"differing": 0.0}
