"""A model that asks its engine at once, and a real server of an application."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from runtime.engine import Engine
from runtime.errors import DecodeError, Fault, InputError
from runtime.image.images import read_picture
from runtime.serve.caller import Caller
from runtime.serve.limits import Limits
from runtime.serve.request_errors import RequestError
from runtime.tasks.joint import locate_phrases


@dataclass
class DirectModel:
    """A `ServedModel`; `fails` is raised in place of every answer."""

    name: str
    engine: Engine
    limits: Limits = field(default_factory=Limits)
    created: float = 1_700_000_000.5
    fails: Exception | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)

    @property
    def fills_masks(self) -> bool:
        return self.engine.manifest.text is not None and self.engine.manifest.text.masked_words

    @property
    def token_budget(self) -> int:
        return self.engine.text.batches.token_budget

    async def _run(self, count: int, call: Callable[[], Any]) -> Any:
        if self.fails is not None:
            raise self.fails
        if count > self.limits.texts:
            raise RequestError("Validation", f"batch size {count} > maximum allowed batch size {self.limits.texts}")
        return await asyncio.to_thread(call)

    def _count(self, caller: Caller, texts: Sequence[str]) -> None:
        caller.timings.characters += sum(map(len, texts))
        caller.timings.tokens += sum(map(len, self.engine.text.tokenizer.try_encode(texts)[0]))

    async def embed_texts(self, caller, texts, *, normalize=True, prompt_name=None, truncate=None, from_left=False):
        self.asked.append({"truncate": truncate, "from_left": from_left, "prompt_name": prompt_name})
        encode = self.engine.text.encode
        rows = await self._run(len(texts), lambda: encode(texts, normalize=normalize, prompt_name=prompt_name))
        self._count(caller, texts)
        return rows

    async def embed_tokens(self, caller, rows, *, normalize=True):
        assert normalize
        return await self._run(len(rows), lambda: self.engine.text.encode_tokens(rows))

    async def fill_mask(self, caller, texts, top_k=5, targets=None):
        fill = self.engine.text.fill_mask
        return await self._run(len(texts), lambda: [fill(text, top_k, targets) for text in texts])

    async def text_similarity(self, caller, source, sentences, prompt_name=None):
        similar = self.engine.text.similarity
        return await self._run(len(sentences), lambda: similar([source] * len(sentences), sentences).tolist())

    async def embed_images(self, caller, images):
        return await self._run(len(images), lambda: self.engine.image.encode(list(images)))

    async def embed_pixels(self, caller, pixels):
        return await self._run(len(pixels), lambda: self.engine.image.encode_pixels(pixels))

    async def similarity(self, caller, image, texts):
        return await self._run(1, lambda: self.engine.similarity(image, texts))

    async def classify(self, caller, images, prompts, *, rule=None, score=None, templates=None):
        classify = self.engine.classify
        return await self._run(len(images), lambda: classify(list(images), prompts, rule, score, templates))

    async def ground(self, caller, image, phrases):
        engine = self.engine
        return await self._run(len(phrases), lambda: locate_phrases(engine.text, engine.image, image, phrases))

    async def picture(self, caller, image):
        colours = self.engine.manifest.image.preprocessing.colours
        try:
            return await self._run(1, lambda: read_picture(image, colours, self.engine.image.dicom))
        except DecodeError as error:
            raise InputError("", [Fault(0, "", str(error))]) from None


@dataclass
class DirectModels:
    """`ServedModels` that are never replaced."""

    models: dict[str, DirectModel]

    @property
    def names(self) -> Sequence[str]:
        return [*self.models]

    @contextlib.contextmanager
    def lease(self, name: str | None = None) -> Iterator[DirectModel]:
        found = self.models.get(name or self.names[0])
        if found is None:
            raise RequestError(
                "NotFound", f"There is no such model; there are: {', '.join(self.names)}.", param="model"
            )
        yield found

    def ready(self) -> tuple[bool, str]:
        return True, ""

    def busy(self) -> float | None:
        return None

    def alive(self) -> tuple[bool, str]:
        return True, ""


@contextlib.contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """The address of a real server of an application, in a thread."""
    config = uvicorn.Config(app, "127.0.0.1", 0, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
