"""Attention said outright, by ONNX's own operator: the same embeddings, whatever stands in the padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.errors import GraphError
from export.graphs.attention_operator import ATTENTION_OPSET, attention_graph
from export.graphs.packing import plain_spec
from export.precision.half import convert_half
from runtime.engines import PROVIDERS, SessionOptions
from tests.conftest import System

SPEC = plain_spec(128, 512)
HEADS, LAYERS = 4, 3
PLAIN = "text/onnx/model.onnx"


@pytest.fixture(scope="module")
def written(tiny: System, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("attention") / "model_attention.onnx"
    attention_graph(tiny.bundle / PLAIN, target, SPEC, HEADS)
    return target


def embed(graph: Path, inputs: dict[str, np.ndarray], precision: str = "fp32") -> np.ndarray:
    session = PROVIDERS["cpu"].open(graph, SessionOptions(1, precision))
    return session.run(["text_embeds"], inputs)[0]


def texts(rows: int, width: int) -> dict[str, np.ndarray]:
    """Rows of 2 to `width` tokens with anything behind their ends."""
    rng = np.random.default_rng(rows)
    ends = np.append(rng.integers(2, width + 1, rows - 1), width)[:, None]
    mask = (np.arange(width) < ends).astype(np.int64)
    return {"input_ids": rng.integers(5, 900, (rows, width)), "attention_mask": mask}


@pytest.mark.parametrize(("rows", "width"), [(1, 2), (1, 16), (2, 33), (7, 64), (3, 512)])
def test_embeddings_are_those_of_the_plain_graph(tiny: System, written: Path, rows: int, width: int) -> None:
    given = texts(rows, width)
    expected = embed(tiny.bundle / PLAIN, given)
    assert np.abs(embed(written, given) - expected).max() <= 1e-6
    if rows > 1:
        unhidden = {**given, "attention_mask": np.ones_like(given["attention_mask"])}
        assert np.abs(embed(written, unhidden) - expected).max() > 1e-3, "padding would be seen"


def test_onnxs_own_evaluator_finds_the_same(tiny: System, written: Path) -> None:
    from onnx.reference import ReferenceEvaluator

    given = texts(3, 9)
    (found,) = ReferenceEvaluator(str(written)).run(["text_embeds"], given)
    assert np.abs(found - embed(tiny.bundle / PLAIN, given)).max() <= 1e-6


def test_there_is_one_product_for_queries_keys_and_values(tiny: System, written: Path) -> None:
    model = onnx.load(str(written), load_external_data=False)
    kinds = [node.op_type for node in model.graph.node]
    before = [node.op_type for node in onnx.load(str(tiny.bundle / PLAIN), load_external_data=False).graph.node]
    assert [entry.version for entry in model.opset_import] == [ATTENTION_OPSET]
    assert kinds.count("Attention") == before.count("Softmax") == LAYERS
    # Two products of attention and two of three in a layer; the last one's query is of [CLS] alone.
    assert before.count("MatMul") - kinds.count("MatMul") == 4 * LAYERS - 1
    assert "Softmax" not in kinds


def test_in_half_precision_attention_is_half(tiny: System, written: Path) -> None:
    half = written.with_name("model_attention_fp16.onnx")
    convert_half(written, half, SPEC, "fp16")
    inferred = onnx.shape_inference.infer_shapes(onnx.load(str(half)))
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    found = {types[node.output[0]] for node in inferred.graph.node if node.op_type == "Attention"}
    assert found == {onnx.TensorProto.FLOAT16}, "FlashAttention has no float32"
    given = texts(7, 64)
    cosines = (embed(half, given, "fp16") * embed(tiny.bundle / PLAIN, given)).sum(axis=1)
    assert cosines.min() >= 0.9995


def test_another_weight_is_seen(tiny: System, written: Path, tmp_path: Path) -> None:
    model = onnx.load(str(written))
    kernel = next(each for each in model.graph.initializer if each.name == "attention:0:kernel")
    changed = numpy_helper.to_array(kernel).copy()
    changed[:, -1] += 0.5
    kernel.CopyFrom(numpy_helper.from_array(changed, kernel.name))
    onnx.save(model, str(tmp_path / "changed.onnx"))
    given = texts(3, 16)
    difference = np.abs(embed(tmp_path / "changed.onnx", given) - embed(tiny.bundle / PLAIN, given)).max()
    assert difference > 1e-4


def test_a_graph_of_another_kind_is_refused(tiny: System, written: Path, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="has no attention"):
        attention_graph(written, tmp_path / "again.onnx", SPEC, HEADS)
    model = onnx.load(str(tiny.bundle / PLAIN))
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    added = next(node for node in model.graph.node if node.output[0] == softmax.input[0])
    added.op_type = "Sub"
    onnx.save(model, str(tmp_path / "other.onnx"))
    with pytest.raises(GraphError, match="Add is expected, Sub came"):
        attention_graph(tmp_path / "other.onnx", tmp_path / "target.onnx", SPEC, HEADS)
