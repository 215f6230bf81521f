"""The graph that fills masks: the encoder of each precision, read where it lies, and the head where the masks are."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from export.build import CalibrationSources, export_bundle
from export.checkpoints import read_tensors
from export.checkpoints.random_checkpoint import write_random_checkpoint
from export.errors import GateError
from export.graphs import fill_mask
from export.parts import faces
from export.precision import Lowering
from export.proof.fill_mask_parity import masked_cases, pytorch_answers
from export.proof.verify import verify_bundle
from export.reference import TextReference, untrained_text
from runtime.bundle import FILL_MASK, PACKED, Artifact, Manifest, open_bundle
from runtime.engines import PROVIDERS, Session, SessionOptions
from runtime.files import sha256_file
from runtime.text import Tokenizer
from runtime.text.packing import Row, pack_masks
from tests.conftest import System, edit_json, tiny_config, tiny_family
from tests.export.conftest import PRECISIONS
from tests.runtime.parts import tokenization

pytestmark = pytest.mark.slow

HERE = [name for name, provider in PROVIDERS.items() if provider.packs and provider.missing() is None]
MASK = 4


def artifact(manifest: Manifest, precision: str, role: str = FILL_MASK) -> Artifact:
    (found,) = (each for each in manifest.text.artifacts if (each.precision, each.role) == (precision, role))
    return found


def opened(bundle: Path, file: str, provider: str, precision: str = "fp32") -> Session:
    return PROVIDERS[provider].open(bundle / file, SessionOptions(threads=1, precision=precision))


def stored(path: Path) -> dict[str, dict[str, str]]:
    """Tensor → where its values lie, of those outside the graph."""
    return {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in onnx.load(str(path), load_external_data=False).graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_encoders_weights_are_those_of_the_packed_graph(exported: tuple[Path, Manifest], precision: str) -> None:
    bundle, manifest = exported
    packed, filling = (artifact(manifest, precision, role) for role in (PACKED, FILL_MASK))
    assert filling.providers == packed.providers
    encoder, all_stored = stored(bundle / packed.file), stored(bundle / filling.file)
    shared = encoder.keys() & all_stored.keys()
    # Left out is the projection head alone.
    assert {name.split(".")[1] for name in encoder.keys() - shared} <= {"projection_head"}
    assert len(shared) >= 20
    assert all(encoder[name] == all_stored[name] for name in shared)
    head = all_stored.keys() - shared
    assert {all_stored[name]["location"] for name in head} == {"fill_mask.onnx_data"}
    assert filling.external_data == (*packed.external_data, "text/onnx/fill_mask.onnx_data")
    # Nothing large is inside a graph, so no weight is there twice.
    assert (bundle / filling.file).stat().st_size < 60_000
    opened_bundle = open_bundle(bundle)
    opened_bundle.verify(filling.files)


def test_the_decoder_reads_the_table_of_the_embeddings(tiny: System, exported: tuple[Path, Manifest]) -> None:
    filling = stored(tiny.bundle / "text/onnx/fill_mask.onnx")
    table = next(place for name, place in filling.items() if name.endswith("word_embeddings.weight"))
    assert filling["fill_mask:decoder.weight"] == table
    assert table["location"] == "model.onnx_data"
    size = 4 * 1000 * 64
    assert (tiny.bundle / "text/onnx/fill_mask.onnx_data").stat().st_size < size
    # Where there are lower precisions, whose embeddings are int8, the float32 table lies in one file for all.
    assert size < (exported[0] / "text/onnx/fill_mask.onnx_data").stat().st_size < 1.2 * size


def test_the_last_layer_is_computed_for_masks_alone(exported: tuple[Path, Manifest], tmp_path: Path) -> None:
    import onnxruntime

    bundle, manifest = exported
    for precision in ("fp32", "int8"):
        model = onnx.load(str(bundle / artifact(manifest, precision).file))
        model.graph.output.append(onnx.helper.make_tensor_value_info("last_hidden_state", 1, None))
        products = [node.output[0] for node in model.graph.node if node.op_type == "Gemm"]
        model.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in products)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        rows = [[2, 9, MASK, 8, 3], [2, MASK, MASK, 3]]
        batch = pack_masks([Row(16, (0, 1)), Row(16, ())], rows, [[2], [1, 2]], 0)
        logits, states, *between = session.run(None, batch.inputs)
        assert logits.shape == (2, 4, 1000), "three masks in four places, in each of two rows"
        assert states.shape == (2, 4, 64)
        assert [each.shape for each in between] == [(8, 64), (8, 1000)]


def expected(checkpoint: Path, rows: list[list[int]], masks: list[list[int]]) -> NDArray[np.float32]:
    """transformers' BertForMaskedLM, a text at a time."""
    from transformers import BertForMaskedLM

    model = BertForMaskedLM.from_pretrained(str(checkpoint)).eval()
    with torch.no_grad():
        return np.concatenate([model(torch.tensor([row])).logits[0, at] for row, at in zip(rows, masks, strict=True)])


def texts_with_masks(seed: int = 0) -> tuple[list[list[int]], list[list[int]]]:
    generator = np.random.default_rng(seed)
    rows, masks = [], []
    for length, count in ((3, 1), (4, 2), (9, 1), (31, 5), (70, 3), (20, 1)):
        row = generator.integers(5, 1000, length)
        masks.append(sorted(generator.permutation(length)[:count].tolist()))
        row[masks[-1]] = MASK
        rows.append(row.tolist())
    return rows, masks


def fill(session: Session, rows: list[list[int]], masks: list[list[int]]) -> NDArray[np.float32]:
    batch = pack_masks([Row(256, tuple(range(len(rows))))], rows, masks, 0)
    (logits,) = session.run(["logits"], batch.inputs)
    return logits[batch.row, batch.place]


def scores(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return torch.from_numpy(logits).softmax(-1).numpy()


@pytest.mark.parametrize("provider", HERE)
def test_scores_are_those_of_transformers(
    exported: tuple[Path, Manifest], tiny_checkpoint: Path, provider: str
) -> None:
    bundle, manifest = exported
    rows, masks = texts_with_masks()
    wanted = expected(tiny_checkpoint, rows, masks)
    found = fill(opened(bundle, artifact(manifest, "fp32").file, provider), rows, masks)
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert np.abs(scores(found) - scores(wanted)).max() <= 1e-5
    # Negative control: a neighbour of the masks has other words.
    beside = fill(opened(bundle, artifact(manifest, "fp32").file, provider), rows, [[0]] * len(rows))
    firsts = np.cumsum([0, *map(len, masks[:-1])])
    assert np.abs(beside - wanted[firsts]).max() > 0.1


@pytest.mark.parametrize("provider", HERE)
@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_lower_precisions_are_near(
    exported: tuple[Path, Manifest], tiny_checkpoint: Path, provider: str, precision: str
) -> None:
    bundle, manifest = exported
    rows, masks = texts_with_masks()
    wanted = expected(tiny_checkpoint, rows, masks)
    found = fill(opened(bundle, artifact(manifest, precision).file, provider, precision), rows, masks)
    centred = [each - each.mean(axis=1, keepdims=True) for each in (found, wanted)]
    norms = np.linalg.norm(centred[0], axis=1) * np.linalg.norm(centred[1], axis=1)
    assert np.min((centred[0] * centred[1]).sum(axis=1) / norms) > 0.98
    assert np.abs(found - wanted).max() > 1e-4, "it is not the fp32 graph"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_graph_was_compared_on_every_engine(exported: tuple[Path, Manifest], precision: str) -> None:
    filling = artifact(exported[1], precision)
    assert [record.provider for record in filling.parity] == HERE
    for record in filling.parity:
        assert record.gates
        assert record.figures["top_word_agreement"] > 0.5


def test_one_perturbed_weight_of_the_head_misses_the_gate(tiny: System, tiny_checkpoint: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny.bundle, tmp_path / "bundle"))
    model = untrained_text(tiny_config()).eval()
    model.load_state_dict(read_tensors(tiny_checkpoint / "pytorch_model.bin"), strict=False)
    with torch.no_grad():
        for parameter in model.cls.parameters():
            if parameter.ndim == 1:  # biases and gains, which are all 0 and all 1 in random weights
                parameter.add_(torch.rand(parameter.shape, generator=torch.Generator().manual_seed(1)) / 4)
    cases = masked_cases(
        pytorch_answers(TextReference(model)), "PyTorch", Tokenizer(bundle / "text", tokenization()), 1000
    )
    packed = artifact(open_bundle(bundle).manifest, "fp32", PACKED)

    def compare(headed: torch.nn.Module) -> None:
        head = fill_mask.export_head(TextReference(headed), bundle / "text/onnx")
        filling = fill_mask.fill_mask_artifact(packed, bundle, head, 512)
        faces.compare_masks(filling, bundle, (PROVIDERS["cpu"],), cases)

    compare(model)
    spoilt = copy.deepcopy(model)
    with torch.no_grad():
        spoilt.cls.predictions.transform.dense.weight.view(-1)[5] += 5
    with pytest.raises(GateError, match=r"text fp32, masks on cpu: (max_abs_score|order_changed) is "):
        compare(spoilt)


def test_words_in_another_order_miss_the_gate_but_ties_do_not() -> None:
    from export.proof.fill_mask_parity import _order_changed

    wanted = np.array([0.1, 0.3, 0.2, 0.2 + 5e-7, 0.05, 0.1 - 1e-3])
    assert not _order_changed(wanted, wanted)
    assert not _order_changed(wanted[[0, 1, 3, 2, 4, 5]], wanted), "equally good words changed places"
    assert _order_changed(wanted[[1, 0, 2, 3, 4, 5]], wanted)
    assert _order_changed(np.full(6, np.nan), wanted)


GENERAL = ("cxr-bert-general", "cxr-bert-general-mean")


@pytest.mark.parametrize("name", GENERAL)
def test_cxr_bert_general_in_the_hubs_layout(tmp_path: Path, name: str) -> None:
    """A plain BERT without projection head: its embeddings are states, and it fills masks; in int8 as well."""
    from transformers import BertForMaskedLM, BertTokenizer

    import runtime

    family = tiny_family(name)
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint", family, 5, tiny_config())
    names = {path.name for path in checkpoint.iterdir()} - {"random_weights.json"}
    assert names == {"config.json", "pytorch_model.bin", "tokenizer_config.json", "vocab.txt"}, "those of the hub"
    weights = torch.load(checkpoint / "pytorch_model.bin", weights_only=True)
    assert {"bert.pooler.dense.weight", "cls.seq_relationship.weight"} <= weights.keys()
    small = CalibrationSources(texts=32, texts_held_out=16)
    lowering = Lowering(("fp32", "int8") if name == GENERAL[1] else ("fp32",))
    manifest = export_bundle(family, str(checkpoint), tmp_path / "bundle", lowering=lowering, calibration=small)
    assert manifest.text.pooling == {"cxr-bert-general": "cls"}.get(name, "mean")
    assert manifest.text.projection == "none"
    assert manifest.text.embedding_size == 64

    model = BertForMaskedLM.from_pretrained(str(checkpoint)).eval()
    tokenizer = BertTokenizer.from_pretrained(str(checkpoint))
    texts = ["Small left effusion.", "no pneumothorax or pleural effusion"]
    with torch.no_grad():
        states = [model.bert(**tokenizer(text.rstrip("."), return_tensors="pt")).last_hidden_state[0] for text in texts]
    pooled = torch.stack([each[0] if name == GENERAL[0] else each.mean(dim=0) for each in states])
    wanted = torch.nn.functional.normalize(pooled, dim=-1).numpy()
    rows, masks = texts_with_masks()
    logits = expected(checkpoint, rows, masks)
    for provider in HERE:
        engine = runtime.load(tmp_path / "bundle", provider=provider, precision="fp32")
        assert np.abs(engine.text.encode(texts) - wanted).max() <= 1e-5
        for precision, bound in zip(lowering.precisions, (1e-5, 1e-2), strict=False):
            session = opened(tmp_path / "bundle", artifact(manifest, precision).file, provider, precision)
            assert np.abs(scores(fill(session, rows, masks)) - scores(logits)).max() <= bound


def test_verify_compares_the_words_too(exported: tuple[Path, Manifest], tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(exported[0], tmp_path / "bundle"))
    spoilt = bundle / "text/onnx/fill_mask_int8.onnx"
    model = onnx.load(str(spoilt), load_external_data=False)
    for node in model.graph.node:  # positions where segments belong: texts see each other
        node.input[:] = ["position_ids" if name == "segment_ids" else name for name in node.input]
    onnx.save(model, str(spoilt))
    entry = {"sha256": sha256_file(spoilt), "bytes": spoilt.stat().st_size}
    edit_json(bundle / "manifest.json", lambda data: data["files"].update({"text/onnx/fill_mask_int8.onnx": entry}))
    found = {each.found.precision: each for each in verify_bundle(bundle, provider="cpu")}
    assert found.keys() == set(PRECISIONS)
    assert found["fp32"].masks.figures["max_abs_score"] <= 1e-5
    assert found["fp32"].masks.reference == "the fp32 graph on cpu"
    assert 0.9 < found["int8-dynamic"].masks.figures["top_word_agreement"] <= 1
    missed = {precision: each.missed for precision, each in found.items() if each.missed}
    assert missed.keys() == {"int8"}
    assert missed["int8"][0].startswith("masks: min_cosine_alone is 0.")
