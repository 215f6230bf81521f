"""What a user makes fast of CXR-BERT's checkpoint without this project, in int8."""

from __future__ import annotations

from typing import Any

from bench.measuring import Entry
from bench.record import Contestant

__all__ = ["bert_peers"]

_EXPORTED = "torch.onnx.export of the checkpoint; texts sorted, in batches of 8"
_ONE_BY_ONE = ("torch", "transformers")


def _int8(name: str, label: str, note: str, modules: tuple[str, ...], **more: Any) -> Entry:
    contestant = Contestant(name, label, "peer", "tuned", precision="int8", note=note)
    return Entry(contestant, f"bert-{name}", ("texts",), (*_ONE_BY_ONE, *modules), **more)


def _foreign(name: str, label: str, note: str, **more: Any) -> Entry:
    """Of the environment of `make peers`."""
    contestant = Contestant(name, label, "peer", "as run", precision="int8", note=f"{note}; transformers 4")
    return Entry(contestant, f"bert-{name}", ("texts",), foreign=True, **more)


def bert_peers() -> tuple[Entry, ...]:
    """They run the checkpoint's texts alone."""
    return (
        _foreign(
            "sentence-transformers-openvino-int8",
            "sentence-transformers, OpenVINO, int8",
            "export_static_quantized_openvino_model, calibrated with 64 synthetic reports",
            makes="sentence-transformers-openvino-int8",
        ),
        _foreign(
            "sentence-transformers-onnx-int8",
            "sentence-transformers, ONNX, int8",
            'export_dynamic_quantized_onnx_model(…, "avx512_vnni")',
        ),
        _foreign(
            "optimum-openvino-int8",
            "optimum-intel, int8",
            "OVQuantizer on its own export, 64 synthetic reports; texts sorted, in batches of 8, the head in PyTorch",
            makes="optimum-openvino-int8",
        ),
        _foreign(
            "optimum-onnx-int8",
            "optimum-onnx, dynamic int8",
            "ORTQuantizer, avx512_vnni per channel, on its own export; sorted, in batches of 8, the head in PyTorch",
        ),
        _int8(
            "ctranslate2-int8",
            "CTranslate2, int8",
            "TransformersConverter of the checkpoint's BERT, the projection head in PyTorch; sorted, in batches of 32",
            ("ctranslate2",),
        ),
        _int8(
            "onnxruntime-dynamic-int8",
            "ONNX Runtime, plain export, dynamic int8",
            f"quantize_dynamic, int8 weights per channel; {_EXPORTED}",
            ("onnx", "onnxruntime"),
        ),
        _int8(
            "openvino-nncf-int8",
            "OpenVINO, plain export, NNCF's int8",
            f"nncf.quantize with model_type=TRANSFORMER; {_EXPORTED}",
            ("openvino", "nncf"),
        ),
    )
