"""Graphs that the check of a GPU makes, with the processor in its place: the same embeddings, and nothing that would
end the capture of a CUDA graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from bench.peers import PEERS
from bench.peers.gpu_graphs import QUERY_LENGTHS, FixedShape
from runtime.bundle import open_bundle
from runtime.engines import PROVIDERS, SessionOptions
from runtime.text import Tokenizer
from tests.conftest import System

PLAIN = "text/onnx/model.onnx"
# What computes shapes does so on the processor.
SHAPES = {"Shape", "Size", "ConstantOfShape", "Range"}


def row(length: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(length).integers(5, 900, length)]


@pytest.fixture(scope="module")
def sixteen(tiny: System) -> FixedShape:
    return FixedShape(tiny.bundle / PLAIN, 16, "cpu", "fp32", 1)


@pytest.mark.parametrize("length", [2, 7, 16])
def test_a_row_of_a_fixed_shape_is_embedded_as_any_other(tiny: System, sixteen: FixedShape, length: int) -> None:
    plain = PROVIDERS["cpu"].open(tiny.bundle / PLAIN, SessionOptions(1, "fp32"))
    ids = np.array([row(length)])
    (expected,) = plain.run(["text_embeds"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    for before in (16, length):  # nothing is left of the row before
        sixteen.embed(row(before)[::-1], 0)
        assert np.abs(sixteen.embed(row(length), 0) - expected[0]).max() <= 1e-6


def test_its_answer_is_not_the_buffer_of_the_next(sixteen: FixedShape) -> None:
    first = sixteen.embed(row(5), 0)
    kept = first.copy()
    sixteen.embed(row(9), 0)
    np.testing.assert_array_equal(first, kept)


def test_with_fixed_shapes_nothing_is_left_that_computes_shapes(tiny: System, tmp_path: Path) -> None:
    def left(fixed: bool) -> set[str]:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(tmp_path / f"{fixed}.onnx")
        if fixed:
            options.add_free_dimension_override_by_name("batch", 1)
            options.add_free_dimension_override_by_name("sequence", 16)
        onnxruntime.InferenceSession(str(tiny.bundle / PLAIN), options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(tmp_path / f"{fixed}.onnx", load_external_data=False).graph.node
        return {node.op_type for node in nodes} & SHAPES

    assert left(fixed=False), "or the test shows nothing"
    assert not left(fixed=True)


def spec(tiny: System, tmp_path: Path, **told: Any) -> dict[str, Any]:
    return {"bundle": tiny.bundle, "made": str(tmp_path), "threads": 1, "provider": "cpu", "precision": "fp16", **told}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("opener", "told"),
    [
        ("made-graph", {"half_residuals": True}),
        ("made-graph", {"attention": True, "half_residuals": True}),
        ("query-graphs", {}),
    ],
)
def test_texts_are_embedded_as_by_the_fp32_graph(tiny: System, tmp_path: Path, opener: str, told: dict) -> None:
    bundle = open_bundle(tiny.bundle)
    tokenizer = Tokenizer(bundle.path("text"), bundle.text_part().tokenization)
    texts = ["no pleural effusion", "the heart", "small left pleural effusion, heart size is normal"]
    assert max(map(len, tokenizer.encode(texts))) <= QUERY_LENGTHS[-1]
    session = PROVIDERS["cpu"].open(tiny.bundle / PLAIN, SessionOptions(1, "fp32"))
    found = PEERS[opener]["texts"](spec(tiny, tmp_path, **told))({"texts": texts})()
    for each, one in zip(found, tokenizer.encode(texts), strict=True):
        ids = np.array([one])
        (expected,) = session.run(["text_embeds"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        assert float(each @ expected[0]) >= 0.9995
    assert not list(tmp_path.iterdir()), "what was made is gone"


@pytest.mark.slow
def test_a_text_that_is_no_query_is_refused(tiny: System, tmp_path: Path) -> None:
    run = PEERS["query-graphs"]["texts"](spec(tiny, tmp_path))({"texts": [json.dumps(list(range(100)))]})
    with pytest.raises(ValueError, match="is none of the queries"):
        run()
