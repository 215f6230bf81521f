"""Whatever bytes come, what reads them refuses them by `RequestError` or takes them; nothing else is raised."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.serve.limits import Limits
from runtime.serve.request_errors import RequestError
from runtime.serve.wire.given import read_given
from runtime.serve.wire.multipart import read_multipart
from runtime.serve.wire.tensors import Inference, read_inference
from tests.runtime.serve.wire.test_bodies import request

FEW = settings(max_examples=150, deadline=None, derandomize=True, database=None)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 40) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
HEADER = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=60)
LINES = [
    "--b",
    "\r\n",
    "--",
    "Content-Disposition: form-data; name=",
    '"x"',
    "; filename*=utf-8''%ff",
    ":",
    "a: b",
    "é",
    '"',
]


def ask(call: Any) -> Any:
    with contextlib.suppress(RequestError):
        return asyncio.run(call)
    return None


@FEW
@given(st.lists(st.sampled_from(LINES) | st.binary(max_size=5), max_size=25), st.integers(1, 40))
def test_forms(pieces: list[str | bytes], step: int) -> None:
    body = b"--b\r\n" + b"".join(each.encode("latin-1") if isinstance(each, str) else each for each in pieces)

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), step):
            yield body[start : start + step]

    ask(read_multipart(chunks(), "b", 10))


@FEW
@given(st.sampled_from(["multipart/form-data;", "application/json;", "image/png;", ""]), HEADER, st.binary(max_size=50))
def test_media_types(kind: str, rest: str, body: bytes) -> None:
    ask(read_given(request([body], content_type=kind + rest), Limits()))


@FEW
@given(
    st.fixed_dictionaries(
        {
            "inputs": st.lists(
                st.fixed_dictionaries(
                    {"name": st.just("TEXT") | ANYTHING},
                    optional={
                        "datatype": st.sampled_from(["BYTES", "FP32", "UINT8"]) | ANYTHING,
                        "shape": st.lists(st.integers(-1, 3), max_size=3) | ANYTHING,
                        "data": ANYTHING,
                        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 20)})
                        | ANYTHING,
                    },
                ),
                max_size=3,
            )
            | ANYTHING
        },
        optional={"outputs": ANYTHING, "parameters": ANYTHING, "id": ANYTHING},
    ),
    st.binary(max_size=12),
    st.booleans(),
)
def test_tensors(content: Any, tail: bytes, told: bool) -> None:
    text = json.dumps(content).encode()
    ask(read_inference(text + tail, str(len(text)) if told else None, 32, 100))


def test_what_can_be_used_is_taken() -> None:
    """Of the same forms: that the tests above reach beyond the first check."""
    form = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--b--\r\n'
    assert (
        ask(read_given(request([form], content_type="multipart/form-data; boundary=b"), Limits())).fields.text("x")
        == "1"
    )
    given_input = {"name": "TEXT", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}
    text = json.dumps({"inputs": [given_input]}).encode()
    found = ask(read_inference(text + struct.pack("<I", 1) + b"a", str(len(text)), 32, 100))
    assert isinstance(found, Inference)
    assert found.inputs["TEXT"].values == [b"a"]
