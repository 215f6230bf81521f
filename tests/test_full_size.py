"""BERT-base and ResNet-50 at 480 × 480 against the reference implementation, stage by stage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runtime
from export.samples import chest_phantom
from runtime.bundle import PACKED
from runtime.engines import PROVIDERS
from runtime.text.packing import plan_packed
from tests.conftest import System

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5
PROMPTS = (
    "There is no pneumothorax or pleural effusion.",
    "No pleural effusion or pneumothorax is seen",
    "The extent of the pleural effusion is constant!?.",
    "Moderate [MASK] pleural effusions and associated [MASK]",
    "lungs",
    "",
)


@pytest.fixture(scope="module")
def reference(full: System):
    from tests.oracle import reference_engine, remember

    return remember(reference_engine(full.checkpoint))


@pytest.fixture(scope="module", params=list(PROVIDERS))
def engine(request: pytest.FixtureRequest, full: System) -> runtime.Engine:
    """Every engine of the table that runs here passes the same suite."""
    reason = PROVIDERS[request.param].missing()
    if reason is not None:
        pytest.skip(f"{request.param}: {reason}")
    return runtime.load(full.bundle, provider=request.param)


@pytest.fixture(scope="module")
def image_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Synthetic radiographs of odd sizes; the shared real ones are added where they are there."""
    folder = tmp_path_factory.mktemp("images")
    files = []
    for index, (height, width) in enumerate(((701, 533), (480, 1001), (333, 333))):
        file = folder / f"phantom{index}.png"
        Image.fromarray(chest_phantom(height, width, index, (0.6, 0.3))).save(file)
        files.append(file)
    return files


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """The one comparison of this file; the negative controls at its end show that it can fail."""
    assert found.shape == expected.shape
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    assert np.nanmax(np.abs(found - expected)) <= TOLERANCE


def test_text_embeddings(engine, reference) -> None:
    text = reference.text_inference_engine
    for batch in (PROMPTS[:1], PROMPTS[:2], (*PROMPTS, PROMPTS[0])):
        for normalize in (True, False):
            expected = text.get_embeddings_from_prompt(list(batch), normalize=normalize, verbose=False).numpy()
            scale = 1.0 if normalize else float(np.abs(expected).max())
            assert_same(engine.text.encode(batch, normalize=normalize) / scale, expected / scale)
        assert np.allclose(np.linalg.norm(engine.text.encode(batch), axis=1), 1, atol=1e-6)


def test_text_embeddings_of_real_notes(engine, reference, shared_data: Path) -> None:
    notes = read_notes(shared_data)
    lengths = [len(row) for row in engine.text.tokenizer.encode(fitting(engine, notes))]
    usable = fitting(engine, notes)
    # Across all lengths, the shortest and the longest among them.
    chosen = [usable[index] for index in np.argsort(lengths)[np.linspace(0, len(usable) - 1, 24).astype(int)]]
    chosen.append("1 " * 510)  # with [CLS] and [SEP] all that the model reads
    text = reference.text_inference_engine
    expected = np.concatenate([text.get_embeddings_from_prompt(note, verbose=False).numpy() for note in chosen])
    assert max(lengths) > 400
    assert_packed(engine, chosen)
    assert_same(engine.text.encode(chosen), expected)


def test_image_embeddings(engine, reference, image_files: list[Path]) -> None:
    images = reference.image_inference_engine
    expected_global = np.stack([images.get_projected_global_embedding(file).numpy() for file in image_files])
    expected_patches = np.stack([images.get_projected_patch_embeddings(file)[0].numpy() for file in image_files])
    assert_same(engine.image.encode(image_files), expected_global)
    assert_same(engine.image.encode(image_files[0]), expected_global[:1])
    assert_same(engine.image.encode_patches(image_files[:2]), expected_patches[:2])
    # Seven at once, in another order: rows come back in the caller's order.
    order = [2, 0, 1, 1, 0, 2, 0]
    assert_same(engine.image.encode([image_files[index] for index in order]), expected_global[order])


def test_similarity(engine, reference, image_files: list[Path]) -> None:
    for texts in ("left basal opacity", ["Pleural effusion", "Fluid in the pleural space."]):
        expected = reference.get_similarity_score_from_raw_data(image_files[0], texts)
        assert engine.similarity(image_files[0], texts) == pytest.approx(expected, abs=TOLERANCE)


def test_similarity_map(engine, reference, image_files: list[Path]) -> None:
    for file in image_files:
        expected = reference.get_similarity_map_from_raw_data(file, "left basal opacity")
        assert_same(engine.similarity_map(file, "left basal opacity"), expected)


def test_real_radiographs(full: System, reference, shared_data: Path) -> None:
    engine = runtime.load(full.bundle, provider="cpu", invert_monochrome1=False)
    images = reference.image_inference_engine
    checked = 0
    for file in sorted((shared_data / "images").iterdir()):
        if "nometa" in file.name:  # the reference cannot read it; see tests/runtime/image/test_decoders.py
            continue
        assert_same(engine.image.encode(file)[0], images.get_projected_global_embedding(file).numpy())
        assert_same(engine.image.encode_patches(file)[0], images.get_projected_patch_embeddings(file)[0].numpy())
        score = reference.get_similarity_score_from_raw_data(file, "pleural effusion")
        assert engine.similarity(file, "pleural effusion") == pytest.approx(score, abs=TOLERANCE)
        expected = reference.get_similarity_map_from_raw_data(file, "pleural effusion")
        assert_same(engine.similarity_map(file, "pleural effusion"), expected)
        checked += 1
    assert checked >= 10


def test_token_ids_of_all_notes(full: System, shared_data: Path) -> None:
    from tests.oracle import reference_tokenizer

    engine = runtime.load(full.bundle, parts=["text"])
    reference = reference_tokenizer(full.checkpoint)
    notes = read_notes(shared_data)
    assert len(notes) == 1701
    usable = fitting(engine, notes)
    assert len(usable) == 1698, "three notes have over 512 tokens"
    expected = reference([note.rstrip("!?.") for note in usable])["input_ids"]
    assert engine.text.tokenizer.encode(usable) == [list(ids) for ids in expected]


def test_the_report_of_the_export(full: System) -> None:
    manifest = json.loads((full.bundle / "manifest.json").read_text())
    text, image = (manifest[part]["artifacts"][0]["parity"][0] for part in ("text", "image"))
    assert text["figures"]["max_abs"] <= TOLERANCE
    assert image["figures"]["max_abs_patch"] <= TOLERANCE
    assert text["gates"]
    assert image["gates"]
    assert manifest["source"]["kind"] == "random"
    assert str(full.checkpoint) not in (full.bundle / "manifest.json").read_text()
    for part in ("text", "image"):
        graph = (full.bundle / part / "onnx" / "model.onnx").read_bytes()
        assert b"/export/" not in graph, "stack traces of the exporting machine"


@pytest.mark.parametrize(
    ("name", "part"),
    [("bert.encoder.layer.6.attention.self.value.weight", "text"), ("encoder.encoder.layer3.2.conv2.weight", "image")],
)
def test_negative_control_one_weight(full: System, image_files: list[Path], name: str, part: str) -> None:
    """One changed weight among 110 and 28 million must fail the comparison."""
    import torch

    from tests.oracle import reference_engine

    reference = reference_engine(full.checkpoint)
    engine = runtime.load(full.bundle, provider="cpu", parts=[part])
    found = engine.text.encode(PROMPTS[0]) if part == "text" else engine.image.encode_patches(image_files[0])

    def expected() -> np.ndarray:
        if part == "text":
            return reference.text_inference_engine.get_embeddings_from_prompt(PROMPTS[0], verbose=False).numpy()
        return reference.image_inference_engine.get_projected_patch_embeddings(image_files[0])[0].numpy()[None]

    assert_same(found, expected())
    model = (reference.text_inference_engine if part == "text" else reference.image_inference_engine).model
    with torch.no_grad():
        model.state_dict()[name].view(-1)[0] += 1.0
    with pytest.raises(AssertionError):
        assert_same(found, expected())


def assert_packed(engine: runtime.Engine, texts: list[str]) -> None:
    """What was compared with the reference is several texts a row, up to the longest, where the engine packs."""
    if not PROVIDERS[engine.provider].packs:
        return
    lengths = [len(row) for row in engine.text.tokenizer.encode(texts)]
    assert max(lengths) == 512
    assert any(
        artifact.role == PACKED and artifact.precision == engine.precision["text"]
        for artifact in engine.manifest.text.artifacts
        if engine.provider in artifact.providers
    )
    rows = [row for batch in plan_packed(lengths, 512, 512) for row in batch]
    assert sum(len(row.texts) > 1 for row in rows) >= 3


def read_notes(shared_data: Path) -> list[str]:
    lines = (shared_data / "reports" / "mts_dialog_section_text.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def fitting(engine: runtime.Engine, notes: list[str]) -> list[str]:
    """The notes that the model reads: those that neither the reference nor the runtime refuses."""
    try:
        engine.text.tokenizer.encode(notes)
    except runtime.InputError as error:
        refused = {fault.index for fault in error.faults}
        return [note for index, note in enumerate(notes) if index not in refused]
    return notes
