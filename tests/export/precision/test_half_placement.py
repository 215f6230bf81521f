"""Half precision on graphs made by hand: constants that do not fit, and the fewest casts."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from export.errors import GraphError
from export.graphs import GraphSpec
from export.graphs.graph import OPSET
from export.precision import half
from export.precision.half import convert_half
from tests.export.gpu import as_on_a_gpu, types

TOY = GraphSpec(inputs={"x": ("batch", 4)}, outputs={"y": ("batch", 4)}, limits={"batch": None})


def write(path: Path, nodes: list[onnx.NodeProto], **constants: NDArray) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [onnx.numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10), path)
    return path


def masked_softmax(path: Path) -> Path:
    """The mask of many BERTs: float32's minimum where x is negative."""
    nodes = [
        helper.make_node("Sign", ["x"], ["sign"]),
        helper.make_node("Clip", ["sign", "", "zero"], ["hidden"]),
        helper.make_node("Mul", ["hidden", "low"], ["positive"]),
        helper.make_node("Neg", ["positive"], ["mask"]),
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("Add", ["scores", "mask"], ["sum"]),
        helper.make_node("Softmax", ["sum"], ["weights"]),
        helper.make_node("MatMul", ["weights", "w"], ["y"]),
    ]
    return write(path, nodes, w=np.eye(4), zero=0.0, low=np.finfo(np.float32).min)


def normalized(path: Path) -> Path:
    """A division by the norm, at least 1e-12, as in torch.nn.functional.normalize."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["projected"]),
        helper.make_node("Abs", ["projected"], ["magnitude"]),
        helper.make_node("Clip", ["magnitude", "epsilon"], ["norm"]),
        helper.make_node("Div", ["projected", "norm"], ["quotient"]),
        helper.make_node("MatMul", ["quotient", "w"], ["y"]),
    ]
    return write(path, nodes, w=np.eye(4), epsilon=1e-12)


def enlarged(path: Path) -> Path:
    """Times a million between two products, and divided again."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["projected"]),
        helper.make_node("Mul", ["projected", "million"], ["large"]),
        helper.make_node("Div", ["large", "million"], ["ordinary"]),
        helper.make_node("MatMul", ["ordinary", "w"], ["y"]),
    ]
    return write(path, nodes, w=np.eye(4), million=1e6)


@pytest.mark.parametrize("build", [masked_softmax, normalized, enlarged])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_constants_that_do_not_fit_stay_float32(tmp_path: Path, build, precision: str) -> None:
    source = build(tmp_path / "g.onnx")
    feed = {"x": np.array([[0, 1, -2, 3], [0, 0, 0, 0], [-1, -1, -1, -1]], np.float32)}
    convert_half(source, tmp_path / "half.onnx", TOY, precision)
    np.testing.assert_allclose(
        as_on_a_gpu(tmp_path / "half.onnx", [feed])[0]["y"], as_on_a_gpu(source, [feed])[0]["y"], atol=0.01
    )


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("build", [masked_softmax, normalized, enlarged])
def test_converting_everything_gives_nan(tmp_path: Path, build, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above."""
    monkeypatch.setattr(half, "_must_stay", lambda *arguments: False)
    monkeypatch.setattr(half, "_HALF_OPERATORS", frozenset({"Mul", "Neg", "Add", "Softmax", "Clip", "Div", "MatMul"}))
    source = build(tmp_path / "g.onnx")
    convert_half(source, tmp_path / "half.onnx", TOY, "fp16")
    feed = {"x": np.array([[0, 1, -2, 3], [0, 0, 0, 0]], np.float32)}
    assert np.isfinite(as_on_a_gpu(source, [feed])[0]["y"]).all()
    assert not np.isfinite(as_on_a_gpu(tmp_path / "half.onnx", [feed])[0]["y"]).all()


def random_graph(path: Path, seed: int) -> tuple[Path, list[onnx.NodeProto]]:
    """Twelve nodes that must be half, must be float32 or may be either, each reading one or two earlier tensors."""
    generator = np.random.default_rng(seed)
    tensors, nodes = ["x"], []
    for index in range(12):
        operator = str(generator.choice(["MatMul", "Softmax", "Relu", "Neg", "Add", "Mul", "Add"]))
        first, second = (str(name) for name in generator.choice(tensors[-4:], 2))
        inputs = {"MatMul": [first, "w"], "Add": [first, second], "Mul": [first, second]}.get(operator, [first])
        tensors.append("y" if index == 11 else f"t{index}")
        nodes.append(helper.make_node(operator, inputs, [tensors[-1]], name=f"n{index}"))
    nodes[0] = helper.make_node("MatMul", ["x", "w"], nodes[0].output, name="n0")
    return write(path, nodes, w=np.eye(4)), nodes


@pytest.mark.parametrize("seed", range(8))
def test_no_placement_takes_fewer_casts(tmp_path: Path, seed: int) -> None:
    """All placements are tried; of those with the fewest casts, the one with the most float32 is taken."""
    source, nodes = random_graph(tmp_path / "g.onnx", seed)
    fixed = {"MatMul": True, "Softmax": False}
    costs = []
    for choice in itertools.product(*([fixed[n.op_type]] if n.op_type in fixed else [False, True] for n in nodes)):
        is_half = {"x": False} | {node.output[0]: kind for node, kind in zip(nodes, choice, strict=True)}
        crossed = {
            name
            for node, kind in zip(nodes, choice, strict=True)
            for name in node.input
            if name != "w" and is_half[name] != kind
        }
        costs.append((len(crossed | ({"y"} if is_half["y"] else set())), sum(choice)))
    convert_half(source, tmp_path / "half.onnx", TOY, "fp16")
    model = onnx.load(tmp_path / "half.onnx")
    known = types(model)
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    halves = sum(known[node.output[0]] == TensorProto.FLOAT16 for node in model.graph.node if node.op_type != "Cast")
    assert (len(casts), halves) == min(costs)
    assert not {node.output[0] for node in casts} & {node.input[0] for node in casts}
    feed = {"x": np.random.default_rng(seed).standard_normal((3, 4)).astype(np.float32)}
    np.testing.assert_allclose(
        as_on_a_gpu(tmp_path / "half.onnx", [feed])[0]["y"], as_on_a_gpu(source, [feed])[0]["y"], rtol=0.02, atol=0.02
    )


def test_what_cannot_be_converted_is_refused(tmp_path: Path) -> None:
    source = normalized(tmp_path / "g.onnx")
    with pytest.raises(GraphError, match="there are: fp16, bf16"):
        convert_half(source, tmp_path / "half.onnx", TOY, "fp8")
    with pytest.raises(GraphError, match="no float32 tensors nothing"):
        convert_half(source, tmp_path / "half.onnx", TOY, "fp16", keep={"nothing", "norm"})
    with pytest.raises(GraphError, match="name another file"):
        convert_half(source, source, TOY, "fp16")
    with pytest.raises(GraphError, match="no operator to convert"):
        convert_half(source, tmp_path / "half.onnx", TOY, "fp16", keep={"projected", "quotient"})
