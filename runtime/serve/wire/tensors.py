"""Tensors of KServe's open inference protocol: JSON, and the binary extension.

Sources: open-inference-protocol, `inference_rest.md`; Triton, `extension_binary_data.md`.
"""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from runtime.serve.request_errors import RequestError
from runtime.serve.wire.bodies import whole_number
from runtime.serve.wire.json_text import OFF_LOOP_BYTES, parse_now

__all__ = ["JSON_LENGTH", "Inference", "Tensor", "read_inference", "written_bytes"]

JSON_LENGTH = "Inference-Header-Content-Length"
# Datatype → of numpy; BYTES are lists of bytes.
DTYPES = {"UINT8": "u1", "INT32": "<i4", "INT64": "<i8", "FP32": "<f4"}
_BYTES = "BYTES"
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Tensor:
    """An input.

    Attributes:
        name: of the input.
        shape: as it was sent.
        datatype: "BYTES" or one of `DTYPES`.
        values: of BYTES the elements as bytes, in JSON as texts; else an array of that shape.
    """

    name: str
    shape: tuple[int, ...]
    datatype: str
    values: Any


@dataclass(frozen=True)
class Inference:
    """A request to infer.

    Attributes:
        id: that is sent back; None for none.
        parameters: of the request.
        inputs: by name.
        outputs: names that are wanted, and whether binary; empty for all.
        binary: whether outputs are binary where they do not say.
    """

    id: str | None
    parameters: dict[str, Any]
    inputs: dict[str, Tensor]
    outputs: dict[str, bool]
    binary: bool


def _bad(message: str) -> RequestError:
    return RequestError("BadRequest", message)


async def read_inference(body: bytes, json_length: str | None, nesting: int, most: int) -> Inference:
    """Parse a request.

    Args:
        body: JSON, and binary tensors behind it.
        json_length: value of the header `JSON_LENGTH`; None for a body that is all JSON.
        nesting: of the JSON.
        most: elements of a tensor of BYTES.

    Raises:
        RequestError: it does not follow the protocol (400).
    """
    if len(body) > OFF_LOOP_BYTES:
        return await asyncio.to_thread(_read, body, json_length, nesting, most)
    return _read(body, json_length, nesting, most)


def _read(body: bytes, json_length: str | None, nesting: int, most: int) -> Inference:
    length = len(body)
    if json_length is not None:
        length = whole_number(json_length) or 0
        if not 0 < length <= len(body):
            raise _bad(f"{JSON_LENGTH} is not the number of bytes of JSON that the body begins with.")
    content = parse_now(body[:length], nesting)
    if not isinstance(content, dict):
        raise _bad("The body is no object.")
    parameters = _object(content, "parameters")
    rest = memoryview(body)[length:]
    inputs: dict[str, Tensor] = {}
    for given in _list(content, "inputs"):
        tensor, used = _tensor(given, rest, most)
        if tensor.name in inputs:
            raise _bad("An input is given twice.")
        inputs[tensor.name] = tensor
        rest = rest[used:]
    if not inputs or len(rest):
        raise _bad(
            "There are no inputs." if not inputs else f"{len(rest)} bytes behind the last tensor are no tensor's."
        )
    binary = parameters.get("binary_data_output", False) is True
    identity = content.get("id")
    if identity is not None and not isinstance(identity, str):
        raise _bad("`id` is no text.")
    return Inference(identity, parameters, inputs, dict(_wanted(content, binary)), binary)


def _object(within: dict[str, Any], name: str) -> dict[str, Any]:
    value = within.get(name)
    if value is not None and not isinstance(value, dict):
        raise _bad(f"`{name}` is no object.")
    return value or {}


def _list(within: dict[str, Any], name: str) -> list[Any]:
    value = within.get(name)
    if value is not None and not isinstance(value, list):
        raise _bad(f"`{name}` is no list.")
    return value or []


def _wanted(content: dict[str, Any], binary: bool) -> Iterator[tuple[str, bool]]:
    for each in _list(content, "outputs"):
        if not isinstance(each, dict) or not isinstance(each.get("name"), str):
            raise _bad("An output has no name.")
        parameters = _object(each, "parameters")
        if "shared_memory_region" in parameters or parameters.get("classification"):
            raise _bad("Outputs in shared memory and as classes are not served.")
        yield each["name"], parameters.get("binary_data", binary) is True


def _tensor(given: Any, rest: memoryview, most: int) -> tuple[Tensor, int]:
    """An input, and how many bytes of `rest` it took."""
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise _bad("An input has no name.")
    datatype, shape = given.get("datatype"), given.get("shape")
    if not isinstance(datatype, str) or (datatype != _BYTES and datatype not in DTYPES):
        raise _bad(f"The datatype of an input is none of: {_BYTES}, {', '.join(DTYPES)}.")
    if not isinstance(shape, list) or not all(type(side) is int and 0 <= side < 1 << 31 for side in shape):
        raise _bad("The shape of an input is no list of numbers from 0.")
    count = math.prod(shape)
    if datatype == _BYTES and count > most:
        raise RequestError("Validation", f"batch size {count} > maximum allowed batch size {most}")
    parameters = _object(given, "parameters")
    if "shared_memory_region" in parameters:
        raise _bad("Inputs in shared memory are not served.")
    size = parameters.get("binary_data_size")
    if size is None:
        return Tensor(given["name"], tuple(shape), datatype, _of_json(given.get("data"), datatype, count, shape)), 0
    if type(size) is not int or not 0 <= size <= len(rest):
        raise _bad("The binary_data_size of an input is not a number of bytes that came.")
    values = _of_bytes(rest[:size], datatype, count, shape)
    return Tensor(given["name"], tuple(shape), datatype, values), size


def _of_json(data: Any, datatype: str, count: int, shape: Sequence[int]) -> Any:
    flat = data
    while isinstance(flat, list) and flat and all(isinstance(each, list) for each in flat):
        flat = [item for each in flat for item in each]
    if not isinstance(flat, list) or len(flat) != count:
        raise _bad("The data of an input is not a list of as many items as its shape has.")
    if datatype == _BYTES:
        if not all(isinstance(each, str) for each in flat):
            raise _bad("The data of an input of BYTES holds what is no text.")
        return flat
    if not all(type(each) is int or (type(each) is float and datatype == "FP32") for each in flat):
        raise _bad("The data of an input holds what is no number of its datatype.")
    try:
        return np.array(flat, DTYPES[datatype]).reshape(shape)
    except OverflowError:
        raise _bad("The data of an input holds a number that its datatype cannot.") from None


def _of_bytes(data: memoryview, datatype: str, count: int, shape: Sequence[int]) -> Any:
    if datatype != _BYTES:
        dtype = np.dtype(DTYPES[datatype])
        if len(data) != count * dtype.itemsize:
            raise _bad("The binary data of an input has not as many bytes as its shape and datatype make.")
        return np.frombuffer(data, dtype).reshape(shape)
    elements: list[bytes] = []
    start = 0
    while start + _LENGTH.size <= len(data) and len(elements) < count:
        (length,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        if length > len(data) - start:
            break
        elements.append(bytes(data[start : start + length]))
        start += length
    if len(elements) != count or start != len(data):
        raise _bad(
            "The binary data of an input of BYTES is not as many elements, each behind its length, as its shape has."
        )
    return elements


def written_bytes(
    outputs: Sequence[tuple[str, str, Any]], asked: Inference, model: str, version: str
) -> tuple[bytes, int]:
    """An answer.

    Args:
        outputs: name, datatype and values of each: for BYTES a list of bytes, whose shape is (N, 1); else an array.
        asked: the request.
        model: its name.
        version: of the model.

    Returns:
        The body, and of how many bytes its JSON is; 0 where it is all JSON.
    """
    described: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for name, datatype, values in outputs:
        shape = [len(values), 1] if datatype == _BYTES else list(values.shape)
        tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
        if asked.outputs.get(name, asked.binary):
            content = _packed(values) if datatype == _BYTES else _little(values, datatype).tobytes()
            tensor["parameters"] = {"binary_data_size": len(content)}
            binary.append(content)
        else:
            tensor["data"] = [each.decode() for each in values] if datatype == _BYTES else values.reshape(-1)
        described.append(tensor)
    answer = {"model_name": model, "model_version": version, "outputs": described}
    if asked.id is not None:
        answer["id"] = asked.id
    text = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"".join([text, *binary]), len(text) if binary else 0


def _packed(values: Sequence[bytes]) -> bytes:
    return b"".join(_LENGTH.pack(len(each)) + each for each in values)


def _little(values: NDArray[Any], datatype: str) -> NDArray[Any]:
    return np.ascontiguousarray(values, DTYPES[datatype])
