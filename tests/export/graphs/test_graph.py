"""Graphs are portable and dynamic, or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from export.errors import GraphError
from export.graphs import GraphSpec, check_graph, export_graph
from export.graphs.graph import OPSET
from tests.conftest import System

SPEC = GraphSpec(inputs={"x": ("batch", 3)}, outputs={"y": ("batch", 3)}, limits={"batch": None})


def write(path: Path, *, operator: str = "Relu", domain: str = "", batch: str | int = "batch") -> Path:
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"], domain=domain)],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
    )
    imports = [helper.make_opsetid("", OPSET)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), path)
    return path


def test_a_portable_graph_passes(tmp_path: Path) -> None:
    info = check_graph(write(tmp_path / "g.onnx"), SPEC)
    assert (info.opset, info.operators) == (OPSET, {"Relu": 1})
    assert info.inputs[0].axes == ("batch", 3)
    assert info.outputs[0].dtype == "float32"


def test_operators_outside_the_standard_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "g.onnx", operator="FusedRelu", domain="com.microsoft")
    with pytest.raises(GraphError, match=r"com\.microsoft::FusedRelu"):
        check_graph(path, SPEC)


def test_operators_inside_branches_are_seen(tmp_path: Path) -> None:
    def branch(operator: str, domain: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 3])
        return helper.make_graph([helper.make_node(operator, ["x"], ["z"], domain=domain)], operator, [], [value])

    path = write(tmp_path / "g.onnx")
    model = onnx.load(path)
    model.graph.initializer.append(helper.make_tensor("condition", TensorProto.BOOL, [], [True]))
    choice = helper.make_node(
        "If", ["condition"], ["y"], then_branch=branch("Relu", ""), else_branch=branch("Fused", "com.microsoft")
    )
    model.graph.node[0].CopyFrom(choice)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, path)
    with pytest.raises(GraphError, match=r"com\.microsoft::Fused"):
        check_graph(path, SPEC)


def test_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"inputs are \{'x': \(2, 3\)\}, expected"):
        check_graph(write(tmp_path / "g.onnx", batch=2), SPEC)


def test_other_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="outputs are"):
        check_graph(write(tmp_path / "g.onnx"), replace(SPEC, outputs={"z": ("batch", 3)}))


def test_invalid_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(b"no graph")
    with pytest.raises(GraphError, match="not valid ONNX"):
        check_graph(tmp_path / "g.onnx", SPEC)


class _Fixed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, 3) * 2


def test_a_module_that_fixes_the_batch_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(GraphError):
        export_graph(_Fixed().eval(), (torch.ones(2, 3),), SPEC, tmp_path / "g.onnx")


def test_exported_graphs_hold_no_trace_of_the_machine(tiny: System) -> None:
    for part in ("text", "image"):
        model = onnx.load(tiny.bundle / part / "onnx" / "model.onnx", load_external_data=False)
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
        assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
        assert b".py" not in model.SerializeToString()


def test_the_weights_lie_in_the_external_file(tiny: System) -> None:
    for part in ("text", "image"):
        folder = tiny.bundle / part / "onnx"
        assert (folder / "model.onnx").stat().st_size < 200_000 < (folder / "model.onnx_data").stat().st_size
