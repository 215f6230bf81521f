"""Every bound of the server, in one place."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """What a client may ask for; beyond it is a refusal.

    Attributes:
        json_bytes: of a JSON body that brings no images: 413.
        image_bytes: of a body that brings images, all of them together: 413.
        texts: a request, and so its phrases and labels: 422.
        images: a request: 422.
        characters: a text, before it is tokenized: 422.
        pixels: an image, by its header, before it is decoded: 422.
        nesting: of JSON: 400.
        words: that are asked for at masks, counted over the texts of a request: 422.
        phrases: that are looked for in an image: 422.
        hits: of a search: 422.
        requests: that are being answered at a time: 429.
        body_bytes: held at a time by all requests together: 429.
        connections: open at a time; more are closed at once.
        wait_seconds: of other callers' work before a request would be answered, as predicted: 429.
        queue_items: texts and images that wait: 429.
        header_seconds: until a request's headers, and again its body, must be there: the connection is closed, or 408.
            A body that comes at 256 KiB/s may take longer.
        header_bytes: of a request's headers: the connection is closed.
        request_seconds: that a request takes at most, the client's own deadline being nearer or not: 504.
    """

    json_bytes: int = 4 << 20
    image_bytes: int = 64 << 20
    texts: int = 2048
    images: int = 32
    characters: int = 20_000
    pixels: int = 50_000_000
    nesting: int = 32
    words: int = 10_000
    phrases: int = 32
    hits: int = 1000
    requests: int = 1024
    body_bytes: int = 512 << 20
    connections: int = 2048
    wait_seconds: float = 10.0
    queue_items: int = 16_384
    header_seconds: float = 20.0
    header_bytes: int = 32 << 10
    request_seconds: float = 300.0
