"""Half-precision graphs as on a GPU, which is not here: the ONNX reference evaluator.

Every node rounds its result to its type and products sum in float32, as on GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

Arrays = Mapping[str, NDArray]


def rounded(compute: Callable[..., torch.Tensor], operator: str) -> type[OpRun]:
    """An operator that computes in float32 and rounds the result to the type of its first input."""

    def run(self: OpRun, *arrays: NDArray, **attributes: object) -> tuple[NDArray]:
        tensors = [torch.from_numpy(np.array(array, np.float32)) for array in arrays]
        return (compute(*tensors, **attributes).numpy().astype(arrays[0].dtype),)

    return type(operator, (OpRun,), {"op_domain": "", "_run": run})


def convolve(x, weight, bias, *, strides, pads, **others) -> torch.Tensor:
    return F.conv2d(x, weight, bias, stride=strides, padding=pads[:2])


# The slow ones of the reference evaluator; it also sums in half precision, which GPUs do not.
ROUNDED = [
    rounded(convolve, "Conv"),
    rounded(lambda a, b: a @ b, "MatMul"),
    rounded(torch.erf, "Erf"),
]


def as_on_a_gpu(path: Path, feeds: list[Arrays]) -> list[Arrays]:
    evaluator = ReferenceEvaluator(str(path), new_ops=ROUNDED)
    with np.errstate(all="ignore"):
        return [dict(zip(evaluator.output_names, evaluator.run(None, dict(feed)), strict=True)) for feed in feeds]


def types(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    found = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)}
    return found | {tensor.name: tensor.data_type for tensor in graph.initializer}
