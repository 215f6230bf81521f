"""A loaded bundle under a name: what requests ask of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime.engine import Engine
from runtime.serve.caller import CURRENT, Caller
from runtime.serve.limits import Limits
from runtime.serve.models.tokenizing import checked_texts, checked_tokens, tokenized
from runtime.serve.models.waiting import Deliveries, in_time
from runtime.serve.request_errors import RequestError
from runtime.serve.scheduling.jobs import Item, Job
from runtime.serve.scheduling.mask_lane import MaskItem, MaskLane
from runtime.serve.scheduling.scheduler import Scheduler
from runtime.serve.scheduling.text_lane import TextItem, TextLane
from runtime.text.fill_mask import Filled, MaskedTexts

if TYPE_CHECKING:
    from PIL.Image import Image

    from runtime.image.given_images import Pixels
    from runtime.serve.decoding.decoder import Decoder
    from runtime.tasks.joint import Located
    from runtime.tasks.prompts import Prompts
    from runtime.tasks.templates import GivenTemplates

__all__ = ["Lanes", "Model"]

_Result = TypeVar("_Result")

# Characters of a request that are tokenized on the event loop: handing them to a thread takes longer.
_FEW_CHARACTERS = 4000


class Lanes:
    """The lanes of a bundle's texts and masks; None for what it has no part for."""

    def __init__(self, text: TextLane | None, mask: MaskLane | None) -> None:
        self.text = text
        self.mask = mask


class Model:
    """See `contract.ServedModel`.

    Attributes:
        name: that clients call it by.
        engine: its sessions are `QueuedSession`s.
        created: when it was loaded, seconds since the epoch.
        digest: of its bundle: changes with any file.
    """

    def __init__(
        self,
        name: str,
        engine: Engine,
        digest: str,
        scheduler: Scheduler,
        lanes: Lanes,
        decoder: Decoder | None,
        threads: ThreadPoolExecutor,
        limits: Limits,
        auto_truncate: bool,
    ) -> None:
        """Put the parts together; see `opening.open_model`."""
        self.name = name
        self.engine = engine
        self.created = time.time()
        self.digest = digest
        self._scheduler = scheduler
        self._lanes = lanes
        self._decoder = decoder
        self._threads = threads
        self._limits = limits
        self._auto_truncate = auto_truncate
        self._deliveries: Deliveries | None = None

    @property
    def token_budget(self) -> int:
        """Tokens in one batch of texts, padding counted; 0 where there is no text part."""
        return self._lanes.text.token_budget if self._lanes.text else 0

    @property
    def fills_masks(self) -> bool:
        """Whether the bundle can."""
        return self._lanes.mask is not None

    async def embed_texts(
        self,
        caller: Caller,
        texts: Sequence[str],
        *,
        normalize: bool = True,
        prompt_name: str | None = None,
        truncate: bool | None = None,
        from_left: bool = False,
    ) -> NDArray[np.float32]:
        """See `contract.ServedModel`."""
        tokenizer = self.engine.text.tokenizer
        checked_texts(texts, self._limits)
        if truncate is None and self._auto_truncate:
            truncate = True

        def read() -> list[list[int]]:
            return tokenized(tokenizer, texts, tokenizer.prompt(prompt_name), truncate, from_left)

        rows = await self._read(caller, texts, read)
        return await self._embed_rows(caller, rows, normalize)

    async def embed_tokens(
        self, caller: Caller, rows: Sequence[Sequence[int]], *, normalize: bool = True
    ) -> NDArray[np.float32]:
        """See `contract.ServedModel`."""
        return await self._embed_rows(caller, checked_tokens(self.engine.text.tokenizer, rows, self._limits), normalize)

    async def fill_mask(
        self, caller: Caller, texts: Sequence[str], top_k: int = 5, targets: Sequence[str] | None = None
    ) -> list[Any]:
        """See `contract.ServedModel`."""
        filler = self.engine.text.masks
        checked_texts(texts, self._limits)
        if targets is not None:
            checked_texts(targets, self._limits, "targets")
        lane = self._lanes.mask
        if lane is None:
            filler.sessions()  # raises what is missing
            raise RequestError("Validation", "This bundle fills no masks.")

        def read() -> MaskedTexts:
            return filler.read(list(texts), top_k, targets, on_note=lambda note: None)

        asked = await self._read(caller, texts, read)
        caller.timings.tokens += sum(map(len, asked.rows))
        caller.timings.items += len(asked.rows)
        found: list[list[list[Filled]]] = [[[] for _ in masks] for masks in asked.masks]
        items = [MaskItem(asked, text, into) for text, into in enumerate(found)]
        await self._compute(caller, lane, items, map(len, asked.rows))
        return [masks[0] if len(masks) == 1 else masks for masks in found]

    async def text_similarity(
        self, caller: Caller, source: str, sentences: Sequence[str], prompt_name: str | None = None
    ) -> list[float]:
        """See `contract.ServedModel`."""
        embeddings = await self.embed_texts(caller, [source, *sentences], prompt_name=prompt_name)
        cosines: list[float] = np.clip(embeddings[1:] @ embeddings[0], -1.0, 1.0).tolist()
        return cosines

    async def embed_images(self, caller: Caller, images: Sequence[bytes]) -> NDArray[np.float32]:
        """See `contract.ServedModel`."""
        pixels = await self._decode(caller, images)
        return await self._call(caller, lambda: self.engine.image.encode(pixels))

    async def embed_pixels(self, caller: Caller, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `contract.ServedModel`."""
        from runtime.image.given_images import Pixels

        self._check_images(len(pixels))
        images = [Pixels(each, (each.shape[-1], each.shape[-2])) for each in pixels]
        return await self._call(caller, lambda: self.engine.image.encode(images))

    async def similarity(self, caller: Caller, image: bytes, texts: Sequence[str]) -> float:
        """See `contract.ServedModel`."""
        from runtime.tasks.joint import average_prompts

        self.engine.text  # noqa: B018  raises where there is none, before anything is computed
        (pixels,) = await self._decode(caller, [image])
        embeds = await self.embed_texts(caller, texts, normalize=False)
        (row,) = await self._call(caller, lambda: self.engine.image.encode(pixels))
        return float(np.clip(row @ average_prompts(embeds), -1.0, 1.0))

    async def classify(
        self,
        caller: Caller,
        images: Sequence[bytes],
        prompts: Prompts | str,
        *,
        rule: str | None = None,
        score: str | None = None,
        templates: GivenTemplates | None = None,
    ) -> list[dict[str, float]]:
        """See `contract.ServedModel`."""
        self.engine.image  # noqa: B018  as above
        classifier = await self._call(caller, lambda: self.engine.zero_shot_classifier(prompts, rule, score, templates))
        rows = classifier.probabilities(await self.embed_images(caller, images)).tolist()
        return [dict(zip(classifier.labels, row, strict=True)) for row in rows]

    async def ground(self, caller: Caller, image: bytes, phrases: Sequence[str]) -> list[Located]:
        """See `contract.ServedModel`."""
        from runtime.tasks.joint import locate_phrases

        checked_texts(phrases, self._limits, "phrases")
        (pixels,) = await self._decode(caller, [image])
        engine, joint = self.engine, self.engine.manifest.joint
        attention = joint.attention if joint else None
        return await self._call(
            caller, lambda: locate_phrases(engine.text, engine.image, pixels, phrases, attention=attention)
        )

    async def picture(self, caller: Caller, image: bytes) -> Image:
        """See `contract.ServedModel`."""
        return await self._required_decoder().picture(image, caller)

    @property
    def decoder(self) -> Decoder | None:
        """Of its images, for what it says of itself; None where the bundle has no image part."""
        return self._decoder

    def _required_decoder(self) -> Decoder:
        self.engine.image  # noqa: B018  raises where there is none
        assert self._decoder is not None, "a bundle with an image part has a decoder"
        return self._decoder

    async def _decode(self, caller: Caller, images: Sequence[bytes]) -> list[Pixels]:
        decoder = self._required_decoder()
        self._check_images(len(images))
        caller.timings.items += len(images)
        return await decoder.decode(list(images), caller)

    def _check_images(self, count: int) -> None:
        if not count:
            raise RequestError("Empty", "There is no image; at least one is expected.")
        if count > self._limits.images:
            raise RequestError(
                "Validation", f"{count} images came; at most {self._limits.images} are taken in a request."
            )

    async def _read(self, caller: Caller, texts: Sequence[str], read: Callable[[], _Result]) -> _Result:
        """Tokenize, on a thread where it takes long."""
        characters = sum(map(len, texts))
        caller.timings.characters += characters
        began = time.perf_counter()
        try:
            return read() if characters <= _FEW_CHARACTERS else await self._call(caller, read)
        finally:
            caller.timings.tokenization += time.perf_counter() - began

    async def _embed_rows(self, caller: Caller, rows: Sequence[Sequence[int]], normalize: bool) -> NDArray[np.float32]:
        lane = self._lanes.text
        assert lane is not None, "a bundle with a text part has a lane for it"
        caller.timings.tokens += sum(map(len, rows))
        caller.timings.items += len(rows)
        places: dict[tuple[int, ...], int] = {}
        where = [places.setdefault(tuple(row), len(places)) for row in rows]
        embeddings = np.empty((len(places), self.engine.text.embedding_size), dtype=np.float32)
        output = "text_embeds" if normalize else "unnormalized_embeds"
        different, cache = list(places), self.engine.text.cache
        cached = cache.suits(different)
        wanted = cache.find(output, different, embeddings) if cached else range(len(different))
        items = [TextItem(different[place], output, embeddings[place]) for place in wanted]
        if items:
            await self._compute(caller, lane, items, [len(each.tokens) for each in items])
            if cached:
                cache.keep(output, [each.tokens for each in items], [each.into for each in items])
        return embeddings if len(places) == len(rows) else embeddings[where]

    async def _compute(
        self, caller: Caller, lane: TextLane | MaskLane, payloads: Sequence[Any], lengths: Iterable[int]
    ) -> None:
        """Have items computed, and wait for them."""
        done, end = self._deliveries_of(asyncio.get_running_loop()).future()
        rate = lane.rate.seconds
        job = Job(caller, lane.kind, end)
        items = [Item(job, payload, length * rate, length) for payload, length in zip(payloads, lengths, strict=True)]
        self._scheduler.submit(lane, job, items)
        await in_time(caller, done)

    def _deliveries_of(self, loop: asyncio.AbstractEventLoop) -> Deliveries:
        """Of the loop that runs: a server has one, tests have several."""
        if self._deliveries is None or self._deliveries.loop is not loop:
            self._deliveries = Deliveries(loop)
        return self._deliveries

    async def _call(self, caller: Caller, call: Callable[[], _Result]) -> _Result:
        """Call something on a thread, on behalf of the caller."""
        caller.check()
        context = copy_context()
        context.run(CURRENT.set, caller)
        loop = asyncio.get_running_loop()
        return await in_time(caller, loop.run_in_executor(self._threads, context.run, call))
