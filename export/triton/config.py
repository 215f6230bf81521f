"""A model's config.pbtxt: its fields as data, and their text in protobuf's format.

Source: `model_config.proto` of triton-inference-server/common; the tests parse what is written here by it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["ModelConfig", "Queue", "Step", "Tensor", "WarmUp", "WarmUpInput"]

# Types of the manifest's tensors.
TYPES: Mapping[str, str] = {
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "uint8": "TYPE_UINT8",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
}


class _Word(str):
    """A name of an enumeration, which stands without quotes."""


# Field → value; a list of messages or values is a repeated field.
_Message: TypeAlias = "Mapping[str, _Value]"
_Value: TypeAlias = "str | _Word | bool | int | Sequence[int] | Sequence[_Message] | _Message"


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model.

    Attributes:
        name: of the tensor.
        type: "TYPE_FP32", …
        dims: of one item, -1 where they differ; the batch's axis is not among them.
        optional: whether requests may leave it out.
        ragged: whether requests of different shapes may share a batch.
    """

    name: str
    type: str
    dims: tuple[int, ...]
    optional: bool = False
    ragged: bool = False

    @property
    def protocol_type(self) -> str:
        """What the protocol calls the type, "BYTES" for strings."""
        return "BYTES" if self.type == "TYPE_STRING" else self.type.removeprefix("TYPE_")

    def message(self) -> _Message:
        """As the proto's ModelInput or ModelOutput."""
        flags = {"optional": self.optional, "allow_ragged_batch": self.ragged}
        return {
            "name": self.name,
            "data_type": _Word(self.type),
            "dims": list(self.dims),
            **{name: True for name, value in flags.items() if value},
        }


@dataclass(frozen=True)
class WarmUpInput:
    """An input of a warm-up request: its type and dims, and the file in the model's `warmup` folder that holds it."""

    type: str
    dims: tuple[int, ...]
    file: str


@dataclass(frozen=True)
class WarmUp:
    """A request that Triton runs before it says that the model is ready.

    Attributes:
        name: shown in its log.
        batch_size: how often the item is repeated.
        inputs: name → data.
    """

    name: str
    batch_size: int
    inputs: Mapping[str, WarmUpInput]

    def message(self) -> _Message:
        """As the proto's ModelWarmup."""
        return {
            "name": self.name,
            "batch_size": self.batch_size,
            "inputs": [
                {
                    "key": name,
                    "value": {
                        "data_type": _Word(each.type),
                        "dims": list(each.dims),
                        "input_data_file": each.file,
                    },
                }
                for name, each in self.inputs.items()
            ],
        }


@dataclass(frozen=True)
class Queue:
    """What waits for a model, which by Triton's defaults has no bound.

    Attributes:
        requests: that wait at most; more are refused.
        seconds: that a request waits at most; callers may ask for less.
    """

    requests: int
    seconds: float


@dataclass(frozen=True)
class Step:
    """A model of an ensemble: its tensors' names → the ensemble's; inputs and outputs apart."""

    model: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]

    def message(self) -> _Message:
        """As the proto's ModelEnsembling.Step; -1 is the newest version."""
        return {
            "model_name": self.model,
            "model_version": -1,
            "input_map": [{"key": key, "value": value} for key, value in self.inputs.items()],
            "output_map": [{"key": key, "value": value} for key, value in self.outputs.items()],
        }


@dataclass(frozen=True)
class ModelConfig:
    """A model of the repository.

    Attributes:
        name: of the model.
        summary: what it does, in a line.
        backend: "python", "onnxruntime" or "openvino"; "ensemble" runs nothing itself.
        max_batch_size: items of a batch, and so of a request.
        inputs: its tensors; outputs alike.
        instances: that run side by side, each with an engine of its own.
        device: "cpu" or "gpu".
        queue: what may wait for it; None of an ensemble, whose models have queues of their own.
        parameters: of the backend.
        warm_ups: in order.
        steps: of an ensemble.
        model_file: what the graph is called where it is not what the backend looks for.
    """

    name: str
    summary: str
    backend: str
    max_batch_size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    instances: int = 1
    device: str = "cpu"
    queue: Queue | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    warm_ups: tuple[WarmUp, ...] = ()
    steps: tuple[Step, ...] = ()
    model_file: str | None = None

    def to_pbtxt(self) -> str:
        """The text of config.pbtxt."""
        ensemble = self.backend == "ensemble"
        message: dict[str, _Value] = {
            "name": self.name,
            "platform" if ensemble else "backend": self.backend,
            "max_batch_size": self.max_batch_size,
            "input": [each.message() for each in self.inputs],
            "output": [each.message() for each in self.outputs],
            "version_policy": {"latest": {"num_versions": 1}},
        }
        if self.model_file:
            message["default_model_filename"] = self.model_file
        if self.queue:
            message["dynamic_batching"] = {
                "default_queue_policy": {
                    "timeout_action": _Word("REJECT"),
                    "default_timeout_microseconds": round(self.queue.seconds * 1e6),
                    "allow_timeout_override": True,
                    "max_queue_size": self.queue.requests,
                }
            }
        if ensemble:
            message["ensemble_scheduling"] = {"step": [each.message() for each in self.steps]}
        else:
            kind = _Word(f"KIND_{self.device.upper()}")
            message["instance_group"] = [{"kind": kind, "count": self.instances}]
        message["parameters"] = [
            {"key": key, "value": {"string_value": value}} for key, value in self.parameters.items()
        ]
        message["model_warmup"] = [each.message() for each in self.warm_ups]
        return f"# {self.summary}\n" + "".join(f"{line}\n" for line in _lines(message))


def _lines(message: _Message, indent: str = "") -> Iterator[str]:
    for name, value in message.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name} {{"
            yield from _lines(value, indent + "  ")
            yield f"{indent}}}"
        elif isinstance(value, Sequence) and not isinstance(value, str):
            numbers = [each for each in value if isinstance(each, int)]
            if numbers:
                yield f"{indent}{name}: [ {', '.join(map(str, numbers))} ]"
            for each in value:
                if isinstance(each, Mapping):
                    yield from _lines({name: each}, indent)
        else:
            yield f"{indent}{name}: {_scalar(value)}"


def _scalar(value: str | bool | int) -> str:
    if isinstance(value, _Word):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=True) if isinstance(value, str) else str(value)
