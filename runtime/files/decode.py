"""Strict JSON: parsed values → frozen dataclasses."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any

__all__ = ["decode"]


def decode(kind: Any, value: Any, path: str) -> Any:
    """Turn parsed JSON into a typed value.

    Args:
        kind: a dataclass, tuple, dict, union or plain type.
        value: what json.loads gave.
        path: where it stands, for messages.

    Raises:
        ValueError: a wrong type, unknown or missing keys; those of fields with a default may be missing.
    """
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, value, path)
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if origin is types.UnionType:
        if value is None and type(None) in arguments:
            return None
        plain = [option for option in arguments if option is not type(None)]
        for option in plain[:-1]:
            if isinstance(value, option):
                return value
        return decode(plain[-1], value, path)
    if origin is tuple and isinstance(value, list):
        return tuple(decode(arguments[0], item, f"{path}[{index}]") for index, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: decode(arguments[1], item, f"{path}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise ValueError(f"{path} should be {kind}, got {value!r}")


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _decode_dataclass(kind: Any, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{path} should be an object, got {type(value).__name__}")
    hints = _hints(kind)
    needed = {field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING}
    unknown, missing = sorted(value.keys() - hints.keys()), sorted(needed - value.keys())
    if unknown or missing:
        raise ValueError(f"{path} has unknown keys {unknown} and lacks {missing}")
    return kind(**{name: decode(hint, value[name], f"{path}.{name}") for name, hint in hints.items() if name in value})
