"""Half precision: what stays float32, how many casts it takes, and that nothing overflows unnoticed.

There is no GPU here; see tests/export/gpu.py. ONNX Runtime and OpenVINO compute half-precision graphs in float32 on
processors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from export.checkpoints import read_tensors
from export.errors import GraphError
from export.graphs import GraphSpec, check_graph, export_graph
from export.graphs.image_rewrites import ImageEmbeddingGraph
from export.graphs.text_rewrites import TextEmbeddingGraph
from export.precision import half
from export.precision.half import convert_half, find_overflowing
from export.reference import TextReference, build_image_model, untrained_text
from export.samples import chest_phantom
from runtime.engines import PROVIDERS, SessionOptions
from tests.conftest import tiny_config, tiny_family
from tests.export.gpu import Arrays, as_on_a_gpu, types

pytestmark = pytest.mark.slow

TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
COSINE = 0.9995
# The layer with the first bias is multiplied by the factor and the weights of the layer after it are divided by it: the
# same function, but what flows between them is far too large for float16, while each constant fits.
OUTSIZED = {
    "text": ("attentions.0.value.bias", "layers.0.attention.output.dense.bias", 2.0**18),
    "image": ("blocks.0.convolutions.0.bias", "blocks.0.convolutions.1.bias", 2.0**13),
}


@dataclass(frozen=True)
class Graph:
    path: Path
    spec: GraphSpec
    feeds: list[Arrays]


def text_feeds() -> list[Arrays]:
    generator = np.random.default_rng(0)
    feeds = []
    for length in (3, 4, 17, 64, 512):
        input_ids = generator.integers(5, 1000, (4, length))
        attention_mask = np.ones((4, length), np.int64)
        attention_mask[1, 3:] = 0  # [CLS] x [SEP] and padding
        attention_mask[2, 1:] = 0  # [CLS] alone
        attention_mask[3, 1:] = generator.integers(0, 2, length - 1)  # with holes
        feeds.append({"input_ids": input_ids * attention_mask, "attention_mask": attention_mask})
    return feeds


def export_text(checkpoint: Path, path: Path) -> Graph:
    model = untrained_text(tiny_config()).eval()
    model.load_state_dict(read_tensors(checkpoint / "pytorch_model.bin"), strict=False)
    spec = GraphSpec(
        inputs={"input_ids": ("batch", "sequence"), "attention_mask": ("batch", "sequence")},
        outputs={"text_embeds": ("batch", 128), "unnormalized_embeds": ("batch", 128)},
        limits={"batch": None, "sequence": 512},
    )
    ids = torch.randint(5, 1000, (2, 16))
    export_graph(
        TextEmbeddingGraph(TextReference(model)).requires_grad_(False), (ids, torch.ones_like(ids)), spec, path
    )
    return Graph(path, spec, text_feeds())


def export_image(checkpoint: Path, path: Path) -> Graph:
    image = tiny_family().image
    model = build_image_model(image).eval()
    model.load_state_dict(read_tensors(checkpoint / image.weights_name))
    spec = GraphSpec(
        inputs={"pixel_values": ("batch", 96, 96)},
        outputs={"image_embeds": ("batch", 128), "patch_embeds": ("batch", 3, 3, 128)},
        limits={"batch": None},
    )
    pixels = torch.randint(0, 256, (2, 96, 96), dtype=torch.uint8)
    export_graph(ImageEmbeddingGraph(model, image.preprocessing).eval().requires_grad_(False), (pixels,), spec, path)
    noise = np.random.default_rng(0).integers(0, 256, (96, 96), dtype=np.uint8)
    black, white = np.zeros_like(noise), np.full_like(noise, 255)
    return Graph(path, spec, [{"pixel_values": np.stack([chest_phantom(96, 96, 1), noise, black, white])}])


@pytest.fixture(scope="module")
def graphs(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Graph]:
    exporters = {"text": export_text, "image": export_image}
    return {
        part: export(tiny_checkpoint, tmp_path_factory.mktemp(part) / "model.onnx")
        for part, export in exporters.items()
    }


@pytest.fixture(params=["text", "image"])
def graph(request: pytest.FixtureRequest, graphs: dict[str, Graph]) -> Graph:
    return graphs[request.param]


@pytest.fixture
def outsized(graph: Graph, tmp_path: Path) -> Graph:
    """The same function, with activations that float16 cannot hold."""
    model = onnx.load(graph.path)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    writers = {name: node for node in model.graph.node for name in node.output}

    def scale(name: str, factor: float) -> None:
        scaled = onnx.numpy_helper.to_array(tensors[name]) * np.float32(factor)
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(scaled, name))

    def weights(bias: str) -> str:
        reader = next(node for node in model.graph.node if bias in node.input)
        # A convolution reads weight and bias; a linear layer is a product and an addition.
        return (reader if reader.op_type == "Conv" else writers[reader.input[0]]).input[1]

    first, second, factor = OUTSIZED["image" if "pixel_values" in graph.spec.inputs else "text"]
    scale(weights(first), factor)
    scale(first, factor)
    scale(weights(second), 1 / factor)
    path = tmp_path / "outsized.onnx"
    onnx.save(model, path)
    return Graph(path, graph.spec, graph.feeds)


def by_engine(path: Path, feeds: list[Arrays], outputs: list[str], engine: str = "cpu") -> list[Arrays]:
    session = PROVIDERS[engine].open(path, SessionOptions(threads=2, precision="fp32"))
    return [dict(zip(outputs, session.run(outputs, feed), strict=True)) for feed in feeds]


def lowest_cosine(found: list[Arrays], expected: list[Arrays]) -> float:
    """Of all rows of all outputs; NaN if any value is not finite."""
    cosines = []
    for outputs, references in zip(found, expected, strict=True):
        for name, reference in references.items():
            assert outputs[name].dtype == reference.dtype == np.float32
            a, b = (array.reshape(-1, array.shape[-1]).astype(np.float64) for array in (outputs[name], reference))
            cosines.append((a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)))
    return float(np.concatenate(cosines).min())


def test_inputs_outputs_and_operators_stay(graph: Graph, tmp_path: Path) -> None:
    before, after = (
        check_graph(graph.path, graph.spec),
        convert_half(graph.path, tmp_path / "g.onnx", graph.spec, "fp16"),
    )
    assert (after.opset, after.inputs, after.outputs) == (before.opset, before.inputs, before.outputs)
    assert {tensor.dtype for tensor in after.outputs} == {"float32"}
    others = ({name: count for name, count in info.operators.items() if name != "Cast"} for info in (before, after))
    assert next(others) == next(others)


def test_the_files_are_half_as_large(graph: Graph, tmp_path: Path) -> None:
    convert_half(graph.path, tmp_path / "g_fp16.onnx", graph.spec, "fp16")
    weights = (graph.path.parent / graph.spec.external_data).stat().st_size
    assert 0.48 < (tmp_path / "g_fp16.onnx_data").stat().st_size / weights < 0.52
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g_fp16.onnx", "g_fp16.onnx_data"]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_products_read_half_and_normalizations_float32(
    graphs: dict[str, Graph], tmp_path: Path, precision: str
) -> None:
    parts = ["text", "image"] if precision == "fp16" else ["text"]
    seen = set()
    for part in parts:
        convert_half(graphs[part].path, tmp_path / "g.onnx", graphs[part].spec, precision)
        model = onnx.load(tmp_path / "g.onnx", load_external_data=False)
        known = types(model)
        for node in model.graph.node:
            floats = {known[name] for name in (*node.input, *node.output) if known[name] in (1, TYPES[precision])}
            if node.op_type in ("LayerNormalization", "Softmax", "ReduceL2", "ReduceMean", "Clip"):
                assert floats == {TensorProto.FLOAT}, node.name
                seen.add(node.op_type)
            if node.op_type in ("MatMul", "Gemm", "Conv", "MaxPool") or node.name == "node_embedding":
                assert floats == {TYPES[precision]}, node.name
                seen.add(node.op_type)
    assert {"LayerNormalization", "Softmax", "ReduceL2", "MatMul", "Gemm", "Gather"} <= seen


def test_each_softmax_and_normalization_costs_two_casts(graphs: dict[str, Graph], tmp_path: Path) -> None:
    before = check_graph(graphs["text"].path, graphs["text"].spec).operators
    after = convert_half(graphs["text"].path, tmp_path / "g.onnx", graphs["text"].spec, "fp16").operators
    added = after["Cast"] - before["Cast"]
    assert added == 2 * (before["LayerNormalization"] + before["Softmax"]) + 1  # one for the outputs
    image = convert_half(graphs["image"].path, tmp_path / "i.onnx", graphs["image"].spec, "fp16").operators
    assert image["Cast"] == 2  # the pixels', which was there, and one before the mean and the norms


def test_fp16_keeps_the_embeddings(graph: Graph, tmp_path: Path) -> None:
    """At every length and padding, on engines that round nowhere, and with every node's result rounded."""
    convert_half(graph.path, tmp_path / "g.onnx", graph.spec, "fp16")
    outputs = list(graph.spec.outputs)
    expected = by_engine(graph.path, graph.feeds, outputs)
    assert lowest_cosine(as_on_a_gpu(tmp_path / "g.onnx", graph.feeds), expected) >= COSINE
    for engine in ("cpu", "openvino"):
        assert lowest_cosine(by_engine(tmp_path / "g.onnx", graph.feeds, outputs, engine), expected) >= COSINE


def test_residuals_in_half_precision_have_norms_that_sum_in_float32(graphs: dict[str, Graph], tmp_path: Path) -> None:
    """No cast around a norm, so that an engine may fuse it with the addition before it; the embeddings are as near."""
    graph = graphs["text"]
    before = check_graph(graph.path, graph.spec).operators
    usual = convert_half(graph.path, tmp_path / "usual.onnx", graph.spec, "fp16").operators
    after = convert_half(graph.path, tmp_path / "g.onnx", graph.spec, "fp16", half_residuals=True).operators
    assert usual["Cast"] - after["Cast"] == 2 * before["LayerNormalization"]
    model = onnx.load(tmp_path / "g.onnx", load_external_data=False)
    known = types(model)
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    assert {known[name] for node in norms for name in (*node.input, node.output[0])} == {TensorProto.FLOAT16}
    writers = {name: node.op_type for node in model.graph.node for name in node.output}
    assert {writers[node.input[0]] for node in norms} <= {"Add", "Erf", "Mul"}
    outputs = list(graph.spec.outputs)
    expected = by_engine(graph.path, graph.feeds, outputs)
    assert lowest_cosine(as_on_a_gpu(tmp_path / "g.onnx", graph.feeds), expected) >= COSINE
    assert lowest_cosine(by_engine(tmp_path / "g.onnx", graph.feeds, outputs), expected) >= COSINE


def test_bf16_keeps_the_embeddings(graphs: dict[str, Graph], tmp_path: Path) -> None:
    """ONNX Runtime has no bfloat16 kernels on the processor; OpenVINO has."""
    graph = graphs["text"]
    convert_half(graph.path, tmp_path / "g.onnx", graph.spec, "bf16")
    outputs, feeds = list(graph.spec.outputs), graph.feeds[:-1]
    expected = by_engine(graph.path, feeds, outputs)
    assert lowest_cosine(as_on_a_gpu(tmp_path / "g.onnx", feeds), expected) >= COSINE
    assert lowest_cosine(by_engine(tmp_path / "g.onnx", feeds, outputs, "openvino"), expected) >= COSINE


def test_the_standard_has_no_bf16_convolution_in_this_opset(graphs: dict[str, Graph], tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="takes bf16"):
        convert_half(graphs["image"].path, tmp_path / "g.onnx", graphs["image"].spec, "bf16")


def test_activations_that_overflow_are_found_and_kept(outsized: Graph, tmp_path: Path) -> None:
    feeds = outsized.feeds[:3]
    expected = by_engine(outsized.path, feeds, list(outsized.spec.outputs))
    blind = convert_half(outsized.path, tmp_path / "blind.onnx", outsized.spec, "fp16")
    assert np.isnan(lowest_cosine(as_on_a_gpu(tmp_path / "blind.onnx", feeds), expected))
    found = find_overflowing(outsized.path, feeds, PROVIDERS["cpu"])
    assert found.keys() == find_overflowing(outsized.path, feeds, PROVIDERS["openvino"]).keys()
    assert min(found.values()) > half.FP16_LIMIT
    kept = convert_half(outsized.path, tmp_path / "kept.onnx", outsized.spec, "fp16", keep=found)
    assert lowest_cosine(as_on_a_gpu(tmp_path / "kept.onnx", feeds), expected) >= COSINE
    assert kept.operators["Cast"] <= blind.operators["Cast"] + 2


def test_ordinary_activations_are_not_kept(graph: Graph) -> None:
    assert find_overflowing(graph.path, graph.feeds, PROVIDERS["cpu"]) == {}
    measured = find_overflowing(graph.path, graph.feeds, PROVIDERS["cpu"], limit=0)
    if "pixel_values" in graph.spec.inputs:
        assert measured["_to_copy"] == 255  # the largest pixel
    assert not list(graph.path.parent.glob(".*"))
