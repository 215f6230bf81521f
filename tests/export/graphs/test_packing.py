"""Texts that share a row are embedded as if each were alone, and an export where they are not leaves no bundle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import runtime
from export.build import export_bundle
from export.errors import GateError
from export.graphs.packing import pack_graph, packed_spec, plain_graph, plain_spec
from export.graphs.text_rewrites import PackedTextGraph
from export.parts import text as text_part
from export.samples import SENTENCES
from runtime.bundle import EMBEDDING, PACKED, Artifact, Manifest
from runtime.engines import PROVIDERS, Session, SessionOptions
from runtime.text.packing import Row, pack_batch
from tests.conftest import tiny_family
from tests.export.conftest import PRECISIONS

pytestmark = pytest.mark.slow

FAMILY = tiny_family("cxr-bert-specialized")
PROVIDERS_THAT_PACK = [name for name, provider in PROVIDERS.items() if provider.packs]
# From nothing between [CLS] and [SEP] to the model's limit.
TEXTS = ["", "1", *SENTENCES, "1 " * 60, "1 " * 61, "1 " * 254, "1 " * 509, "1 " * 510]


def artifact(manifest: Manifest, precision: str, role: str) -> Artifact:
    (found,) = (each for each in manifest.text.artifacts if (each.precision, each.role) == (precision, role))
    return found


def session(exported: tuple[Path, Manifest], provider: str, precision: str = "fp32", role: str = PACKED) -> Session:
    bundle, manifest = exported
    file = bundle / artifact(manifest, precision, role).file
    return PROVIDERS[provider].open(file, SessionOptions(threads=1, precision=precision))


def reference(checkpoint: Path, texts: list[str], pooling: str = "cls") -> np.ndarray:
    """The reference package's model, a text at a time."""
    from tests.oracle import reference_text_model, reference_tokenizer

    tokenizer, model = reference_tokenizer(checkpoint), reference_text_model(checkpoint)
    found = []
    with torch.no_grad():
        for text in texts:
            tokens = tokenizer(text.rstrip("!?."), return_tensors="pt")
            states = model.bert(tokens["input_ids"], tokens["attention_mask"]).last_hidden_state
            pooled = states[:, 0] if pooling == "cls" else states.mean(dim=1)
            found.append(torch.nn.functional.normalize(model.cls_projection_head(pooled), dim=-1).numpy())
    return np.concatenate(found)


@pytest.mark.parametrize("provider", PROVIDERS_THAT_PACK)
def test_together_alone_and_the_reference_are_the_same(
    exported: tuple[Path, Manifest], tiny_checkpoint: Path, provider: str
) -> None:
    engine = runtime.load(exported[0], provider=provider, precision="fp32")
    together = engine.text.encode(TEXTS)
    assert np.abs(together - reference(tiny_checkpoint, TEXTS)).max() <= 1e-5
    alone = np.concatenate([engine.text.encode(text) for text in TEXTS])
    assert np.abs(together - alone).max() <= 1e-5
    assert np.abs(together - engine.text.encode(TEXTS[::-1])[::-1]).max() <= 1e-5


@pytest.fixture(scope="module")
def mean_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mean") / "bundle"
    export_bundle(replace(FAMILY, name="mean", text=replace(FAMILY.text, pooling="mean")), str(tiny_checkpoint), out)
    return out


@pytest.mark.parametrize("provider", PROVIDERS_THAT_PACK)
def test_mean_pooling_averages_a_texts_own_tokens(mean_bundle: Path, tiny_checkpoint: Path, provider: str) -> None:
    found = runtime.load(mean_bundle, provider=provider, precision="fp32").text.encode(TEXTS)
    assert np.abs(found - reference(tiny_checkpoint, TEXTS, "mean")).max() <= 1e-5
    assert np.abs(found - reference(tiny_checkpoint, TEXTS)).max() > 1e-2, "it is another pooling"


def inputs(texts: list[list[int]], width: int) -> dict[str, np.ndarray]:
    return pack_batch([Row(width, tuple(range(len(texts))))], texts, 0).inputs


def random_texts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(5, 1000, length).tolist() for length in lengths]


@pytest.mark.parametrize("provider", PROVIDERS_THAT_PACK)
def test_a_text_does_not_see_its_neighbours(exported: tuple[Path, Manifest], provider: str) -> None:
    graph = session(exported, provider)
    text, *others = random_texts([20, 7, 30, 12, 50])

    def embed(given: Mapping[str, np.ndarray], place: int) -> np.ndarray:
        return graph.run(["text_embeds"], given)[0][0, place]

    alone = embed(inputs([text], 20), 0)
    rows = ([text], [text, *others], [*others, text], [others[0], text, others[2]])
    for row in rows:
        given = inputs(row, 128)
        assert np.abs(embed(given, row.index(text)) - alone).max() <= 1e-5
        # Nor what fills the row.
        given["input_ids"][given["segment_ids"] == 0] = 77
        assert np.abs(embed(given, row.index(text)) - alone).max() <= 1e-5

    # Negative controls: each input matters.
    def spoilt(name: str, values: np.ndarray) -> float:
        return float(np.abs(embed({**inputs([*others, text], 128), name: values}, 4) - alone).max())

    right = inputs([*others, text], 128)
    assert spoilt("segment_ids", right["segment_ids"]) <= 1e-5
    assert spoilt("segment_ids", np.ones((1, 128), np.int64)) > 1e-3
    assert spoilt("position_ids", np.arange(128)[None]) > 1e-3
    assert spoilt("text_positions", right["text_positions"] + 1) > 1e-3
    assert spoilt("input_ids", right["input_ids"][:, ::-1].copy()) > 1e-3


SPOILT = {
    "mask": lambda ids, positions, segments, firsts: (ids, positions, segments.clamp(max=1), firsts),
    "places": lambda ids, positions, segments, firsts: (ids, positions, segments, firsts * 0),
    "positions": lambda ids, positions, segments, firsts: (
        ids,
        positions * 0 + torch.arange(ids.shape[1]),
        segments,
        firsts,
    ),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_graph_that_is_right_for_a_text_a_row_only_misses_the_gate(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil
) -> None:
    """Alone, a text's segment is 1, it begins at 0 and so do its positions: the plain graph notices nothing."""

    class Broken(PackedTextGraph):
        def forward(self, input_ids, position_ids, segment_ids, text_positions):
            return super().forward(*spoil(input_ids, position_ids, segment_ids, text_positions))

    monkeypatch.setattr(text_part, "PackedTextGraph", Broken)
    with pytest.raises(GateError, match=r"text fp32, packed on cpu: max_abs is .*, at most 1e-05 is allowed"):
        export_bundle(FAMILY, str(tiny_checkpoint), tmp_path / "bundle", provider="cpu")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_packed_graph_was_compared_on_every_engine(exported: tuple[Path, Manifest], precision: str) -> None:
    plain, packed = (artifact(exported[1], precision, role) for role in (EMBEDDING, PACKED))
    assert packed.providers == tuple(name for name in plain.providers if PROVIDERS[name].packs)
    installed = [name for name in packed.providers if PROVIDERS[name].missing() is None]
    assert [record.provider for record in packed.parity] == installed
    assert all(record.gates for record in packed.parity)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_other_tools_open_a_graph_of_two_inputs(exported: tuple[Path, Manifest], precision: str) -> None:
    import onnxruntime

    bundle, manifest = exported
    plain, packed = (artifact(manifest, precision, role).file for role in (EMBEDDING, PACKED))
    for file, names, more in (
        (plain, ["input_ids", "attention_mask"], ["last_hidden_state"]),
        (packed, ["input_ids", "position_ids", "segment_ids", "text_positions"], []),
    ):
        opened = onnxruntime.InferenceSession(str(bundle / file), providers=["CPUExecutionProvider"])
        assert [each.name for each in opened.get_inputs()] == names
        assert [each.name for each in opened.get_outputs()] == ["text_embeds", "unnormalized_embeds", *more]


def stored(model: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """Tensor → where its values lie: file, offset, length."""
    return {
        tensor.name: tuple(entry.value for entry in tensor.external_data)
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }


@pytest.mark.parametrize("precision", PRECISIONS)
def test_both_graphs_read_the_same_weights(exported: tuple[Path, Manifest], precision: str) -> None:
    bundle, manifest = exported
    plain, packed = (artifact(manifest, precision, role) for role in (EMBEDDING, PACKED))
    assert plain.external_data == packed.external_data
    graphs = [onnx.load(str(bundle / each.file), load_external_data=False) for each in (plain, packed)]
    assert len(stored(graphs[0])) > 20
    assert stored(graphs[0]) == stored(graphs[1])
    for graph in graphs:
        inline = [tensor for tensor in graph.graph.initializer if tensor.name not in stored(graph)]
        assert max(tensor.ByteSize() for tensor in inline) < 2048
    data = {path.name for path in (bundle / "text" / "onnx").iterdir() if not path.name.startswith("fill_mask")}
    assert data == {
        f"{stem}{ending}"
        for stem in ("model", "model_int8", "model_int8_dynamic")
        for ending in (".onnx", "_packed.onnx", ".onnx_data")
    }


@pytest.mark.parametrize("precision", PRECISIONS)
def test_packing_and_unpacking_are_inverse(exported: tuple[Path, Manifest], tmp_path: Path, precision: str) -> None:
    bundle, manifest = exported
    folder = Path(shutil.copytree(bundle / "text" / "onnx", tmp_path / "onnx"))
    packed = folder / Path(artifact(manifest, precision, PACKED).file).name
    weights = artifact(manifest, precision, PACKED).external_data[0].rpartition("/")[2]
    specs = plain_spec(128, 512), packed_spec(128, 512, weights)
    plain_graph(packed, folder / "plain.onnx", specs[0])
    pack_graph(folder / "plain.onnx", folder / "again.onnx", specs[1])
    for one, other in (
        (packed, folder / "again.onnx"),
        (folder / Path(artifact(manifest, precision, EMBEDDING).file).name, folder / "plain.onnx"),
    ):
        left, right = (onnx.load(str(path), load_external_data=False) for path in (one, other))
        assert operators(left) == operators(right)
        assert stored(left) == stored(right)
    options = SessionOptions(threads=1, precision=precision)
    given = inputs(random_texts([3, 20, 9]), 32)
    found = [
        PROVIDERS["cpu"].open(path, options).run(["text_embeds"], given)[0] for path in (packed, folder / "again.onnx")
    ]
    assert np.array_equal(*found)


def operators(model: onnx.ModelProto) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    return sorted((node.op_type, tuple(node.input), tuple(node.output)) for node in model.graph.node)


@pytest.mark.parametrize("provider", PROVIDERS_THAT_PACK)
@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_int8_together_is_int8_alone(exported: tuple[Path, Manifest], provider: str, precision: str) -> None:
    engine = runtime.load(exported[0], provider=provider, precision=precision)
    together = engine.text.encode(TEXTS)
    alone = np.concatenate([engine.text.encode(text) for text in TEXTS])
    assert np.sum(together * alone, axis=1).min() >= 0.999
