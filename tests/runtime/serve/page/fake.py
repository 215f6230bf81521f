"""A server that answers what the page asks as the interfaces say, with made-up figures and without a model."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runtime.serve.page.page import routes
from runtime.serve.request_errors import RequestError

ALL = {"text": True, "image": True, "joint": True, "mask": True, "patches": True}
MODEL = {
    "name": "biovil",
    "family": "biovil",
    "provider": "openvino",
    "precision": {"text": "int8", "image": "int8"},
    "random_weights": False,
    "capabilities": ALL,
    "mask_token": "[MASK]",
    "score": "pairs",
    "prompt_sets": ["pneumonia", "chexpert"],
    "templates": ["chexzero"],
}
GRID = (14, 14)


@dataclass
class Fake:
    """What it says, and what it was asked.

    Attributes:
        info: the answer of /info.
        key: that requests must carry; None for no key.
        refuse: path → answers that come first, in turn.
        seconds: that every POST takes.
        asked: (path, fields), in the order they came.
        authorizations: the header of every request to an interface.
    """

    info: dict[str, Any] = field(default_factory=lambda: {"model_id": "biovil", "models": [MODEL], "indexes": []})
    key: str | None = None
    refuse: dict[str, list[Response]] = field(default_factory=dict)
    seconds: float = 0.0
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)

    def offer(self, *models: dict[str, Any], indexes: tuple[dict[str, Any], ...] = ()) -> None:
        self.info = {"model_id": "x", "models": [{**MODEL, **model} for model in models], "indexes": list(indexes)}

    def last(self, path: str) -> dict[str, Any]:
        return [fields for asked, fields in self.asked if asked == path][-1]


async def _fields(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with request.form() as form:
            fields: dict[str, Any] = {}
            for name, value in form.multi_items():
                if name == "image":
                    fields["image"] = await value.read()
                    fields["type"], fields["filename"] = value.content_type, value.filename
                else:
                    fields.setdefault(name, []).append(value)
            return fields
    return await request.json() if request.method == "POST" else {}


def vector(text: str) -> list[float]:
    """A unit vector of 16 that depends on the text alone."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
    drawn = np.random.default_rng(seed).normal(size=16)
    return (drawn / np.linalg.norm(drawn)).tolist()


def patch_map(phrase: str) -> np.ndarray:
    """Two hills and a valley at places that depend on the phrase."""
    seed = int.from_bytes(hashlib.sha256(phrase.encode()).digest()[:4], "little")
    drawn = np.random.default_rng(seed)
    rows, columns = np.mgrid[: GRID[0], : GRID[1]]
    hills = np.zeros(GRID)
    for height in (0.5, 0.25, -0.3):
        row, column = drawn.uniform(2, GRID[0] - 3, 2)
        hills += height * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 12)
    return np.round(hills, 4)


def _size(image: bytes) -> tuple[int, int]:
    try:
        return Image.open(io.BytesIO(image)).size
    except OSError:
        return 320, 400  # what /picture gives of a DICOM file


def _ground(fields: dict[str, Any]) -> Any:
    width, height = _size(fields["image"])
    side = min(width, height)
    box = {"x": (width - side) / 2, "y": (height - side) / 2, "width": side, "height": side}
    phrases = [
        {"phrase": phrase, "score": round(float(patch_map(phrase).mean()) * 3, 4), "map": patch_map(phrase).tolist()}
        for phrase in fields["phrases"]
    ]
    return {"width": width, "height": height, "box": box, "grid": list(GRID), "phrases": phrases}


def _classify(fields: dict[str, Any]) -> Any:
    chosen = fields.get("labels") or {"pneumonia": ["Pneumonia"]}.get(fields["prompts"][0])
    chosen = chosen or ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum"]
    return {"labels": {label: round(0.9 - 0.13 * at, 3) for at, label in enumerate(chosen)}}


def _fill_mask(fields: dict[str, Any]) -> Any:
    words = fields["parameters"].get("targets") or ["pleural", "left", "right", "pericardial", "bilateral", "small"]
    filled = [
        {"score": 0.8 / 3**at, "token": at, "token_str": word, "sequence": fields["inputs"].replace("[MASK]", word, 1)}
        for at, word in enumerate(words[: fields["parameters"]["top_k"]])
    ]
    gaps = fields["inputs"].count("[MASK]")
    return filled if gaps == 1 else [filled] * gaps


def _search(fields: dict[str, Any]) -> Any:
    count = int(np.ravel(fields["top_k"])[0])
    hits = [
        {"rank": at + 1, "score": 0.7 - at / 20, "id": f"study-{at}", "text": f"Report number {at}.",
         "picture": f"/indexes/films/pictures/{at}"}
        for at in range(min(count, 6))
    ]  # fmt: skip
    return {"index": "films", "kind": "image", "hits": hits}


def _embed_text(fields: dict[str, Any]) -> Any:
    texts = fields["texts"] if isinstance(fields["texts"], list) else [fields["texts"]]
    return {"embeddings": [vector(text) for text in texts], "tokens": [4] * len(texts), "model": "biovil"}


_ANSWERS = {
    "/ground": _ground,
    "/classify": _classify,
    "/fill-mask": _fill_mask,
    "/search": _search,
    "/embed/text": _embed_text,
    "/embed/image": lambda fields: {"embeddings": [vector("image")], "model": "biovil"},
}


def _png(width: int, height: int) -> bytes:
    rows, columns = np.mgrid[:height, :width]
    grey = 120 + 100 * np.cos(4 * np.pi * (columns / width - 0.5)) * np.sin(np.pi * rows / height)
    target = io.BytesIO()
    Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(target, "PNG")
    return target.getvalue()


def build(fake: Fake) -> Starlette:
    async def answer(request: Request) -> Response:
        path = request.url.path
        fake.authorizations.append(request.headers.get("authorization"))
        if fake.key is not None and request.headers.get("authorization") != f"Bearer {fake.key}":
            return JSONResponse({"error": "A key is needed.", "error_type": "Unauthorized"}, 401)
        if path == "/info":
            return fake.refuse["/info"].pop(0) if fake.refuse.get("/info") else JSONResponse(fake.info)
        fields = await _fields(request)
        fake.asked.append((path, fields))
        if fake.refuse.get(path):
            return fake.refuse[path].pop(0)
        await asyncio.sleep(fake.seconds)
        if path == "/picture" or path.startswith("/indexes/"):
            return Response(_png(320, 400), media_type="image/png")
        return JSONResponse(_ANSWERS[path](fields))

    async def refused(request: Request, error: RequestError) -> Response:
        return JSONResponse({"error": error.message, "error_type": error.kind}, error.status)

    async def unknown(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": "There is nothing here."}, error.status_code)

    return Starlette(
        routes=[
            *routes(),
            *(Route(path, answer, methods=["POST"]) for path in (*_ANSWERS, "/picture")),
            Route("/info", answer),
            Route("/indexes/{name}/pictures/{row}", answer),
        ],
        exception_handlers={RequestError: refused, HTTPException: unknown},
    )


@contextlib.contextmanager
def running(app: Starlette) -> Iterator[str]:
    """The address of a uvicorn on a free port of the loopback interface."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < deadline, "the server did not start in 20 s"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True  # not waiting for answers that nobody waits for
        thread.join(timeout=20)
