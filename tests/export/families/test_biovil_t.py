"""BioViL-T: the published file's tensors, both forms of config.json, and a bundle that is hi-ml's model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

import runtime
from export.build import CalibrationSources, export_bundle
from export.checkpoints import open_checkpoint
from export.checkpoints.models import load_models
from export.checkpoints.random_checkpoint import write_random_checkpoint
from export.errors import CheckpointError, GateError
from export.families import FAMILIES
from export.parts.pair_faces import PairFaces
from export.precision import Lowering
from export.proof import Judge
from export.proof.verify import verify_bundle
from export.reference import build_image_model
from export.reference.hi_ml import hi_ml
from export.reference.image_pairs import ENCODERS
from export.samples import chest_phantom
from runtime.bundle import EMBEDDING, PAIR, Artifact, FidelityRecord, open_bundle
from runtime.choice.info import describe_bundle
from tests.conftest import edit_json, tiny_config

FAMILY = FAMILIES["biovil-t"]
TINY = replace(FAMILY, image=replace(FAMILY.image, blocks=(1, 1, 1, 1)))
IMAGES = replace(TINY, text=None, joint=None)
SMALL = CalibrationSources(images_count=16, images_held_out=8)
TEXTS = ["Moderate left pleural effusion!", "No acute cardiopulmonary process.", "Worsening consolidation"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("biovil-t") / "checkpoint", TINY, 5, tiny_config())


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Path:
    out = checkpoint.parent / "bundle"
    export_bundle(TINY, str(checkpoint), out)
    return out


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six files, wide and high."""
    folder = tmp_path_factory.mktemp("films")
    for index in range(6):
        film = chest_phantom(640 + 80 * index, 900 - 60 * index, index)
        Image.fromarray(film).save(folder / f"{index}.png")
    return sorted(folder.iterdir())


def hi_ml_pixels(path: Path) -> torch.Tensor:
    """float32 (3, 448, 448) by hi-ml's own reader and transforms for BioViL-T."""
    transform = hi_ml("image.data.transforms").create_chest_xray_transform_for_inference(512, 448)
    pixels: torch.Tensor = transform(hi_ml("image.data.io").load_image(path))
    return pixels


def upstream(checkpoint: Path, current: list[Path], previous: list[Path] | None = None) -> list[NDArray[np.float32]]:
    """hi-ml's `MultiImageModel`, an image or a pair at a time: global and patch embeddings, unit norm."""
    model = build_image_model(TINY.image).eval()
    assert type(model).__name__ == "MultiImageModel"
    model.load_state_dict(torch.load(checkpoint / TINY.image.weights_name, weights_only=True))
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    with torch.inference_mode():
        for index, path in enumerate(current):
            before = [] if previous is None else [hi_ml_pixels(previous[index])[None]]
            output = model(hi_ml_pixels(path)[None], *before)
            embed = F.normalize(output.projected_global_embedding, dim=-1)
            patches = F.normalize(output.projected_patch_embeddings, dim=1).permute(0, 2, 3, 1)
            found.append((embed, patches))
    return [torch.cat(each).numpy() for each in zip(*found, strict=True)]


def test_the_untrained_model_has_the_published_files_tensors() -> None:
    with torch.device("meta"):
        state = build_image_model(FAMILY.image).state_dict()
    assert len(state) == 372
    sizes = {name: tensor.numel() for name, tensor in state.items()}
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    assert sum(size for name, size in sizes.items() if not name.endswith(buffers)) == 27_349_928
    assert not any("pos_embed" in name for name in state), "positions are in no file"
    expected = hi_ml("image.model.model").MultiImageModel(
        img_encoder_type=ENCODERS["resnet50+transformer"], joint_feature_size=128
    )
    assert {name: tensor.shape for name, tensor in state.items()} == {
        name: tensor.shape for name, tensor in expected.state_dict().items()
    }
    assert build_image_model(TINY.image).encoder.vit_pooler.pos_embed.equal(expected.encoder.vit_pooler.pos_embed)


def test_the_row_says_what_upstream_does() -> None:
    published, utils = hi_ml("image.model.pretrained"), hi_ml("image.utils")
    assert FAMILY.hub.repo == published.BIOMED_VLP_BIOVIL_T
    assert FAMILY.hub.revision == published.BIOVIL_T_COMMIT_TAG
    assert FAMILY.image.weights_name == published.BIOVIL_T_IMAGE_WEIGHTS_NAME
    assert FAMILY.image.weights_md5 == published.BIOVIL_T_IMAGE_WEIGHTS_MD5
    assert FAMILY.image.embedding_size == published.JOINT_FEATURE_SIZE
    assert FAMILY.image.preprocessing.size == utils.TRANSFORM_RESIZE
    assert FAMILIES["cxr-bert-biovil-t"].text == FAMILY.text
    assert FAMILIES["biovil-t-image"].image == FAMILY.image


@pytest.mark.parametrize("typed", [True, False])
def test_both_forms_of_config_json_are_read(checkpoint: Path, tmp_path: Path, typed: bool) -> None:
    """At v1.0 it says "bert", on the main branch nothing; the pooler's weights in the file are not read."""
    folder = write_random_checkpoint(tmp_path / "text", FAMILIES["cxr-bert-biovil-t"], 5, tiny_config())
    saved = torch.load(folder / "pytorch_model.bin", weights_only=True)
    assert "bert.pooler.dense.weight" in saved
    if not typed:
        edit_json(folder / "config.json", lambda config: config.pop("model_type"))
    family = FAMILIES["cxr-bert-biovil-t"]
    found = open_checkpoint(str(folder), family, tmp_path / "work")
    assert found.config.get("model_type") == ("bert" if typed else None)
    assert "AutoConfig" not in found.config["auto_map"]
    reference = load_models(family, found)["text"]
    assert type(reference.model).__name__ == "CXRBertModel"
    assert (reference.size, reference.pooling) == (128, "cls")
    del saved["cls_projection_head.dense_to_hidden.weight"]
    torch.save(saved, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"missing +cls_projection_head\.dense_to_hidden\.weight"):
        load_models(family, open_checkpoint(str(folder), family, tmp_path / "work"))


def test_pixels_are_hi_mls_to_the_byte(bundle: Path, films: list[Path]) -> None:
    found, faults = runtime.load(bundle, provider="cpu").image.load(films)
    assert not faults
    for pixels, path in zip(found, films, strict=True):
        expected = (hi_ml_pixels(path) * 255).round().to(torch.uint8)
        assert pixels.pixels.shape == (448, 448)
        assert all(np.array_equal(pixels.pixels, channel.numpy()) for channel in expected)


@pytest.mark.slow
@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_embeddings_are_hi_mls_with_and_without_a_previous_image(
    bundle: Path, checkpoint: Path, films: list[Path], provider: str
) -> None:
    engine = runtime.load(bundle, provider=provider)
    previous = [films[index] for index in (3, 4, 5, 0, 1, 2)]
    alone, compared = upstream(checkpoint, films), upstream(checkpoint, films, previous)
    assert np.abs(engine.image.encode(films) - alone[0]).max() <= 1e-5
    assert np.abs(engine.image.encode_patches(films) - alone[1]).max() <= 1e-5
    assert np.abs(engine.image.encode(films, previous) - compared[0]).max() <= 1e-5
    assert np.abs(engine.image.encode_patches(films, previous) - compared[1]).max() <= 1e-5
    mixed = engine.image.encode(films, [previous[0], None, previous[2], None, None, previous[5]])
    kept = [index in (0, 2, 5) for index in range(6)]
    assert np.abs(mixed - np.where(np.array(kept)[:, None], compared[0], alone[0])).max() <= 1e-5
    assert np.abs(alone[0] - compared[0]).max() > 1e-2, "a previous image changes the embedding"
    assert np.abs(upstream(checkpoint, previous, films)[0] - compared[0]).max() > 1e-3, "and the order counts"


@pytest.mark.slow
def test_texts_are_hi_mls(bundle: Path, checkpoint: Path) -> None:
    found = open_checkpoint(str(checkpoint), TINY, checkpoint.parent / "work")
    reference = load_models(TINY, found)["text"]
    engine = runtime.load(bundle, provider="cpu")
    for text, row in zip(TEXTS, engine.text.encode(TEXTS), strict=True):
        ids = torch.tensor(engine.text.tokenizer.encode([text]))
        expected = F.normalize(reference.embed(ids, torch.ones_like(ids)), dim=-1)[0]
        assert np.abs(row - expected.numpy()).max() <= 1e-5
    (filled, *_) = engine.text.fill_mask("There is [MASK] effusion.", top_k=2)
    assert 0 < filled["score"] <= 1
    assert engine.similarity_map(np.full((600, 700), 9, np.uint8) + np.eye(600, 700, dtype=np.uint8), TEXTS[0]).shape


def test_the_manifest_says_that_two_images_may_come(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    assert manifest.family == "biovil-t"
    assert (manifest.image.architecture, manifest.image.images, manifest.image.grid) == ("resnet50+transformer", 2, 14)
    roles = [(each.role, each.file) for each in manifest.image.artifacts]
    assert roles == [(EMBEDDING, "image/onnx/model.onnx"), (PAIR, "image/onnx/pair.onnx")]
    (record,) = manifest.image.artifacts[1].parity
    assert record.reference == "PyTorch fp32 (hi-ml-multimodal)"
    assert max(record.figures["max_abs"], record.figures["max_abs_patch"]) <= 1e-5
    assert "previous image" in record.cases
    assert manifest.joint.score == "pairs"
    assert describe_bundle(bundle)["choices"]["cpu"]["image"]["file"] == "image/onnx/model.onnx"


@pytest.mark.slow
def test_int8_has_both_graphs_of_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of TensorRT's spelling the graph of pairs is made to miss its gate: both are left out."""
    measure = PairFaces._record

    def record(faces: PairFaces, single: FidelityRecord, pair: Artifact, judge: Judge) -> FidelityRecord:
        if pair.providers == ("tensorrt",):
            raise GateError("The export is not faithful enough to PyTorch", ["image int8, pairs: made up"])
        return measure(faces, single, pair, judge)

    monkeypatch.setattr(PairFaces, "_record", record)
    monkeypatch.setattr("export.proof.fidelity._TIMED_RUNS", 1)
    out, lowering = tmp_path / "bundle", Lowering(("int8",), tensorrt=True)
    manifest = export_bundle(IMAGES, "random", out, seed=3, lowering=lowering, calibration=SMALL)
    artifacts = {each.file.removeprefix("image/onnx/"): each for each in manifest.image.artifacts}
    # fp32 was not asked for, and stays for TensorRT, which has nothing else.
    assert list(artifacts) == ["model.onnx", "pair.onnx", "model_int8.onnx", "pair_int8.onnx"]
    single, pair = artifacts["model_int8.onnx"], artifacts["pair_int8.onnx"]
    assert (single.role, pair.role) == (EMBEDDING, PAIR)
    assert pair.external_data == ("image/onnx/model_int8.onnx_data", "image/onnx/pair.onnx_data")
    assert (pair.precision, pair.providers) == (single.precision, single.providers)
    measured = [(each.provider, each.precision) for each in pair.fidelity]
    assert measured == [(each.provider, each.precision) for each in single.fidelity]
    assert all(each.figures["mean_cosine"] > 0.99 and each.items == 8 for each in pair.fidelity)
    assert [(each.precision, each.providers) for each in manifest.left_out] == [("int8", ("tensorrt",))]
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} - {"manifest.json"}
    files = {name for each in artifacts.values() for name in each.files}
    assert names == set(manifest.files) == {*files, "image/preprocessor_config.json"}
    verified = {each.file.removeprefix("image/onnx/"): each for each in verify_bundle(out, provider="cpu")}
    assert list(verified) == ["model.onnx", "model_int8.onnx", "pair.onnx", "pair_int8.onnx"]
    for name, each in verified.items():
        assert each.found.figures["mean_cosine"] == pytest.approx(each.recorded.figures["mean_cosine"], abs=1e-5), name
        assert not each.missed
    engine = runtime.load(out, provider="cpu", precision="int8")
    film = [chest_phantom(500, 460, seed) for seed in (1, 2)]
    alone, compared = engine.image.encode(film[0]), engine.image.encode(film[0], film[1])
    assert np.abs(alone - compared).max() > 1e-3


def test_other_image_models_are_told(checkpoint: Path, tmp_path: Path) -> None:
    """Each file under the other's name, where names tell nothing."""
    biovil = replace(FAMILIES["biovil-image"], image=replace(FAMILIES["biovil-image"].image, blocks=(1, 1, 1, 1)))
    plain = write_random_checkpoint(tmp_path / "plain", biovil, 1)
    (plain / biovil.image.weights_name).rename(plain / IMAGES.image.weights_name)
    with pytest.raises(CheckpointError, match="export that as biovil or biovil-image"):
        load_models(IMAGES, open_checkpoint(str(plain), IMAGES, tmp_path / "work"))
    other = tmp_path / "other"
    other.mkdir()
    (other / biovil.image.weights_name).write_bytes((checkpoint / IMAGES.image.weights_name).read_bytes())
    with pytest.raises(CheckpointError, match=r"encoder\.vit_pooler"):
        load_models(biovil, open_checkpoint(str(other), biovil, tmp_path / "work"))
