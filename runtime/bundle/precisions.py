"""The table of precisions: what artifacts may be in, for which engines, and how they are exported.

A new precision is one more entry, what writes its graphs in `export.precision`, and what an engine must be told, in
that engine's own table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["PRECISIONS", "Precision"]

_PROCESSORS = ("cpu", "openvino")
_GPUS = ("cuda", "tensorrt")


@dataclass(frozen=True)
class Precision:
    """One precision.

    Attributes:
        name: as in the manifest and on command lines.
        options: engine that runs artifacts of it → options with which `python -m export` makes one.
        parts: that can have it.
        rounds: whether values are rounded between operators, so that what differs by 1e-7 before may differ by a step
            after.
    """

    name: str
    options: Mapping[str, str]
    parts: tuple[str, ...] = ("text", "image")
    rounds: bool = True


def _options(precisions: str, *engines: str) -> dict[str, str]:
    return dict.fromkeys(engines, f"--precision {precisions}")


_TABLE = (
    Precision("fp32", _options("fp32", *_PROCESSORS, *_GPUS), rounds=False),
    Precision("fp16", _options("fp32,fp16", *_GPUS)),
    Precision("bf16", _options("fp32,bf16", *_GPUS)),
    Precision(
        "int8",
        {
            **_options("fp32,int8", *_PROCESSORS, "cuda"),
            "tensorrt": "--precision fp32,int8 --target tensorrt",
        },
    ),
    Precision("int8-dynamic", _options("fp32,int8-dynamic", *_PROCESSORS), parts=("text",)),
)

PRECISIONS: Mapping[str, Precision] = MappingProxyType({precision.name: precision for precision in _TABLE})
