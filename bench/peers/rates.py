"""What the machine can do: products of two large matrices in each precision, by OpenVINO; on a GPU by PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peers.contract import Case, Prepare, Run, Spec
from bench.record.contestant import ON_GPU

__all__ = ["GPU_RATES", "RATES", "RATE_OPERATIONS", "open_rate"]

# Of a product: (rows, inner) × (inner, columns).
_ROWS, _SIZE = 1536, 4096
# Products in a pass. A processor is faster for the fraction of a second that one product takes than it can stay.
_PRODUCTS: Mapping[str, int] = {"fp32": 1, "bf16": 2, "int8": 4}
# On a GPU: matrices of this size, products in a pass, and what PyTorch calls the type.
_GPU_SIZE = 8192
_ON_GPU: Mapping[str, tuple[int, str]] = {
    f"{ON_GPU}fp32": (1, "float32"),
    f"{ON_GPU}bf16": (8, "bfloat16"),
    f"{ON_GPU}fp16": (8, "float16"),
}
GPU_RATES = tuple(_ON_GPU)
RATE_OPERATIONS: Mapping[str, float] = {
    **{name: 2.0 * _ROWS * _SIZE**2 * count for name, count in _PRODUCTS.items()},
    **{name: 2.0 * _GPU_SIZE**3 * count for name, (count, _) in _ON_GPU.items()},
}
_HINTS = {"fp32": "f32", "bf16": "bf16"}


def open_rate(spec: Spec) -> Prepare:
    """A peer that multiplies; "precision" says in what, and on what."""
    precision = spec["precision"]
    if precision in _ON_GPU:
        return _open_on_gpu(*_ON_GPU[precision])
    model, values = RATES[precision]()
    import openvino

    options: dict[str, Any] = {"INFERENCE_NUM_THREADS": spec["threads"]}
    if precision in _HINTS:
        options["INFERENCE_PRECISION_HINT"] = _HINTS[precision]
    request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()

    def prepare(case: Case) -> Run:
        return lambda: np.stack([request.infer([values])[0].copy() for _ in range(_PRODUCTS[precision])])

    return prepare


def _open_on_gpu(products: int, dtype: str) -> Prepare:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    generator = torch.Generator("cuda").manual_seed(0)
    left, right = (
        torch.randn(_GPU_SIZE, _GPU_SIZE, device="cuda", generator=generator).to(getattr(torch, dtype))
        for _ in range(2)
    )

    def run() -> NDArray[Any]:
        for _ in range(products):
            found = left @ right
        first: NDArray[Any] = found[0].float().cpu().numpy()  # waits for it
        return first

    return lambda case: run


def _floats() -> tuple[Any, Any]:
    import openvino
    import openvino.opset13 as op

    generator = np.random.default_rng(0)
    left = op.parameter([_ROWS, _SIZE], np.float32)
    right = op.constant(generator.standard_normal((_SIZE, _SIZE)).astype(np.float32))
    # Reduced, so that results cost no time.
    largest = op.reduce_max(op.matmul(left, right, False, False), np.array([1]), False)
    return openvino.Model([largest], [left]), generator.standard_normal((_ROWS, _SIZE)).astype(np.float32)


def _int8() -> tuple[Any, Any]:
    import openvino
    import openvino.opset13 as op

    generator = np.random.default_rng(0)
    left = op.parameter([_ROWS, _SIZE], np.uint8)
    right = op.constant(generator.integers(-127, 128, (_SIZE, _SIZE)).astype(np.int8))
    scales = op.constant(np.full((1, _SIZE), 0.01, np.float32))
    product = op.matmul(
        op.multiply(op.convert(left, "f32"), np.float32(0.01)),
        op.multiply(op.convert(right, "f32"), scales),
        False,
        False,
    )
    # Rounded to uint8 again and reduced, so that results cost no time.
    low, high = np.float32(0), np.float32(1000)
    largest = op.reduce_max(op.fake_quantize(product, low, high, low, high, 256), np.array([1]), False)
    return openvino.Model([largest], [left]), generator.integers(0, 256, (_ROWS, _SIZE)).astype(np.uint8)


# From nothing to a model of one product and what is multiplied.
RATES: Mapping[str, Callable[[], tuple[Any, Any]]] = {"fp32": _floats, "bf16": _floats, "int8": _int8}
