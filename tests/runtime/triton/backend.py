"""The part of `triton_python_backend_utils` that models use, without Triton: what its stub hands them and takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

__all__ = ["InferenceRequest", "as_module"]


class Tensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._array


class TritonError:
    INTERNAL, INVALID_ARG, CANCELLED = "internal", "invalid argument", "cancelled"

    def __init__(self, message: str, code: str) -> None:
        self.message, self.code = message, code


@dataclass
class InferenceRequest:
    inputs: Mapping[str, Any]
    cancelled: bool = False

    def is_cancelled(self) -> bool:
        return self.cancelled


@dataclass
class InferenceResponse:
    output_tensors: list[Tensor] = field(default_factory=list)
    error: TritonError | None = None

    def of(self, name: str) -> np.ndarray:
        assert self.error is None, self.error.message
        return {each.name(): each.as_numpy() for each in self.output_tensors}[name]


class Logger:
    said: ClassVar[list[str]] = []

    @classmethod
    def log_error(cls, message: str) -> None:
        cls.said.append(message)


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    return Tensor(name, request.inputs[name]) if name in request.inputs else None


def as_module() -> ModuleType:
    module = ModuleType("triton_python_backend_utils")
    for each in (Tensor, TritonError, InferenceResponse, Logger, get_input_tensor_by_name):
        setattr(module, each.__name__, each)
    Logger.said.clear()
    return module
