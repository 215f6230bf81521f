"""Activation functions are known by what they compute, and stand in graphs as engines fuse them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from transformers.activations import ACT2FN

from export.graphs import GraphSpec, export_graph
from export.graphs.activations import Gelu, QuickGelu, TanhGelu, fusible

KNOWN = {
    "gelu": Gelu,
    "gelu_python": Gelu,
    "gelu_pytorch_tanh": TanhGelu,
    "gelu_new": TanhGelu,
    "gelu_fast": TanhGelu,
    "quick_gelu": QuickGelu,
}
# What ONNX Runtime's kernels are called.
FUSED = {Gelu: "BiasGelu", TanhGelu: "FastGelu", QuickGelu: "QuickGelu"}


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_function_is_found_and_stays_the_same(name: str) -> None:
    upstream = ACT2FN[name]
    found = fusible(upstream)
    assert type(found) is KNOWN[name]
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 4
    assert (found(values) - upstream(values)).abs().max() <= 1e-6


@pytest.mark.parametrize("other", [nn.ReLU(inplace=True), nn.SiLU(), ACT2FN["gelu_10"]])
def test_another_function_stays_as_it_is(other: nn.Module) -> None:
    assert fusible(other) is other


def test_open_clips_and_timms_are_known() -> None:
    import timm.layers
    from open_clip.transformer import QuickGELU

    found = [fusible(each) for each in (nn.GELU(), timm.layers.GELU(), nn.GELU("tanh"), QuickGELU())]
    assert [type(each) for each in found] == [Gelu, Gelu, TanhGelu, QuickGelu]


@pytest.mark.slow
@pytest.mark.parametrize("known", FUSED)
def test_onnx_runtime_fuses_it(known: type[nn.Module], tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(8, 8), known(), nn.Linear(8, 8)).eval().requires_grad_(False)
    path, optimized = tmp_path / "model.onnx", tmp_path / "optimized.onnx"
    spec = GraphSpec({"given": ("batch", "width", 8)}, {"found": ("batch", "width", 8)}, {"batch": None, "width": None})
    given = torch.randn(2, 3, 8)
    export_graph(module, (given,), spec, path)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(optimized), 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    assert FUSED[known] in [node.op_type for node in onnx.load(str(optimized)).graph.node]
    (found,) = session.run(None, {"given": given.numpy()})
    assert np.abs(found - module(given).numpy()).max() <= 1e-6
