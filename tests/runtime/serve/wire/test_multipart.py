"""Forms: whatever the chunks that they come in, and what is no form."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import httpx2
import pytest

from runtime.serve.request_errors import RequestError
from runtime.serve.wire.multipart import Part, read_multipart

# A film may hold anything, the beginning of a boundary too.
FILM = bytes(range(256)) + b"\r\n--bound\r\n--" + b"\r\n\r\n"
PARTS = [Part("texts", "Erguß".encode(), False), Part("texts", b"", False), Part("image", FILM, True)]


def encoded(boundary: str = "boundary", parts: Sequence[Part] = PARTS) -> bytes:
    pieces = []
    for part in parts:
        name = '; filename="Name, Patient.dcm"\r\nContent-Type: application/dicom' if part.is_file else ""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{part.name}"{name}\r\n\r\n'
        pieces.append(head.encode() + part.data + b"\r\n")
    return b"".join(pieces) + f"--{boundary}--\r\n".encode()


def read(body: bytes, boundary: str = "boundary", step: int = 1 << 20, most: int = 10) -> list[Part]:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), step):
            yield body[start : start + step]

    return asyncio.run(read_multipart(chunks(), boundary, most))


@pytest.mark.parametrize("step", [1, 2, 3, 7, 11, 64, 1 << 20])
def test_chunks_make_no_difference(step: int) -> None:
    assert read(encoded(), step=step) == PARTS


def test_as_a_client_writes_it() -> None:
    request = httpx2.Request(
        "POST",
        "http://x",
        data={"labels": ["a", "b"], "score": "softmax"},
        files={"image": ("x.png", FILM, "image/png")},
    )
    boundary = request.headers["content-type"].partition("boundary=")[2]
    found = read(request.read(), boundary)
    assert [(part.name, part.data) for part in found if not part.is_file] == [
        ("labels", b"a"),
        ("labels", b"b"),
        ("score", b"softmax"),
    ]
    assert found[-1] == Part("image", FILM, True)


def test_what_comes_before_and_behind_counts_for_nothing() -> None:
    assert read(b"\r\n" + encoded() + b"epilogue") == PARTS


def test_too_many_parts() -> None:
    assert len(read(encoded(), most=3)) == 3
    with pytest.raises(RequestError) as raised:
        read(encoded(), most=2)
    assert raised.value.kind == "Validation"


HEAD = '--boundary\r\nContent-Disposition: form-data; name="x"\r\n'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form",
        encoded()[:-12],
        encoded()[: len(encoded()) // 2],
        encoded("another"),
        b"--boundary\r\n\r\nx\r\n--boundary--\r\n",
        b"--boundary\r\nContent-Disposition: form-data\r\n\r\nx\r\n--boundary--\r\n",
        b'--boundary\r\nContent-Disposition: attachment; name="x"\r\n\r\nx\r\n--boundary--\r\n',
        b'--boundary\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n--boundary--\r\n',
        f"{HEAD}Content-Transfer-Encoding: base64\r\n\r\nx\r\n--boundary--\r\n".encode(),
        HEAD.encode() + b"X-Header: 1\r\n" * 40 + b"\r\nx\r\n--boundary--\r\n",
        f"{HEAD}X-Long: {'x' * 10_000}\r\n\r\nx\r\n--boundary--\r\n".encode(),
        f"{HEAD}{'x' * 10_000}".encode(),
    ],
)
def test_what_is_no_form(body: bytes) -> None:
    with pytest.raises(RequestError) as raised:
        read(body, step=100)
    assert raised.value.kind == "BadRequest"


@pytest.mark.parametrize("boundary", ["", "x" * 71, "a\r\nb", "ä", "x" * 100_000])
def test_boundaries(boundary: str) -> None:
    with pytest.raises(RequestError) as raised:
        read(b"", boundary)
    assert raised.value.kind == "BadRequest"
    assert read(encoded("x" * 70), "x" * 70) == PARTS
