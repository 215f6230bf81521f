"""What a request can ask of a loaded bundle, and of the server's bundles: what protocols are written against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.engine import Engine
from runtime.serve.caller import Caller

if TYPE_CHECKING:
    from PIL.Image import Image

    from runtime.tasks.joint import Located
    from runtime.tasks.prompts import Prompts
    from runtime.tasks.templates import GivenTemplates

__all__ = ["ServedModel", "ServedModels"]


class ServedModel(Protocol):
    """One loaded bundle under a name. Its methods are called on the event loop and wait for the engine's turn.

    All of them raise, beside what they name: RequestError where the queue is full (429), the deadline passed (504), the
    server stops (503) or a limit of `Limits` is exceeded; InputError with `faults` for texts or images that cannot be
    used, every one of them; BundleError for what the bundle has no part for. They add to `caller.timings`.

    Attributes:
        name: that clients call it by.
        engine: for what it says of itself: manifest, provider, precision, tokenizer. Nothing is computed on it here.
        created: seconds since the epoch: when it was loaded.
        fills_masks: whether there is a graph for that, in the precision that is served.
        token_budget: tokens of texts that are computed together, padding counted; 0 without a text part.
    """

    name: str
    engine: Engine
    created: float

    @property
    def fills_masks(self) -> bool:
        """See above."""

    @property
    def token_budget(self) -> int:
        """See above."""

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
        """Embed texts as `TextEncoder.encode` does.

        Args:
            caller: who asks.
            texts: one or more.
            normalize: divide by the L2 norm.
            prompt_name: of what is put before each.
            truncate: cut texts of more tokens than the model reads, or (False) refuse them; None does what the bundle
                does.
            from_left: cut the beginning instead of the end.

        Returns:
            float32 (N, D).
        """

    async def embed_tokens(
        self, caller: Caller, rows: Sequence[Sequence[int]], *, normalize: bool = True
    ) -> NDArray[np.float32]:
        """Embed token ids as they stand, special tokens among them: float32 (N, D)."""

    async def fill_mask(
        self, caller: Caller, texts: Sequence[str], top_k: int = 5, targets: Sequence[str] | None = None
    ) -> list[Any]:
        """For each text, always as a list, what `TextEncoder.fill_mask` gives for it alone."""

    async def text_similarity(
        self, caller: Caller, source: str, sentences: Sequence[str], prompt_name: str | None = None
    ) -> list[float]:
        """Cosines of a text with others."""

    async def embed_images(self, caller: Caller, images: Sequence[bytes]) -> NDArray[np.float32]:
        """Embed encoded pictures (PNG, JPEG, DICOM): float32 (N, D), unit L2 norm."""

    async def embed_pixels(self, caller: Caller, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed prepared pixels, uint8 (N, *`Preprocessing.shape`): float32 (N, D), unit L2 norm."""

    async def similarity(self, caller: Caller, image: bytes, texts: Sequence[str]) -> float:
        """See `Engine.similarity`."""

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
        """See `Engine.classify`; prompts are embedded once, also for later requests."""

    async def ground(self, caller: Caller, image: bytes, phrases: Sequence[str]) -> list[Located]:
        """See `Engine.ground_phrases`; patch by patch, as maps of the image's size may take gigabytes."""

    async def picture(self, caller: Caller, image: bytes) -> Image:
        """A picture at its full size as the model sees it, mode "L" or "RGB", to draw on."""


class ServedModels(Protocol):
    """The server's bundles."""

    @property
    def names(self) -> Sequence[str]:
        """Of all, the default one first."""

    def lease(self, name: str | None = None) -> AbstractContextManager[ServedModel]:
        """A bundle for the whole of a request: a reload replaces it for later ones alone.

        Args:
            name: that a client gave; None and "" take the default one.

        Raises:
            RequestError: there is none of that name (404), or the server stops (503).
        """

    def ready(self) -> tuple[bool, str]:
        """Whether requests can be answered now, and in a word why not."""

    def busy(self) -> float | None:
        """Seconds after which a request may come again, where even a short one would be refused now; else None."""

    def alive(self) -> tuple[bool, str]:
        """Whether the engines answer: False where only a restart helps, and why."""

    async def reload(self) -> Mapping[str, str]:
        """Open every bundle anew from its path, warm it, and swap it in; a bundle that cannot be keeps its old one.

        Returns:
            Name → "reloaded", "unchanged", or why it was not.
        """

    async def drain(self, seconds: float) -> bool:
        """Take nothing more, wait until all that was accepted is answered; False where that took longer."""

    def close(self) -> None:
        """End the threads and child processes."""
