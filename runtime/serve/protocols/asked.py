"""What handlers of all protocols share: who asks, what a model can do, and the headers of an answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from runtime.serve.caller import Caller
from runtime.serve.limits import Limits
from runtime.serve.models.contract import ServedModel
from runtime.serve.request_errors import RequestError
from runtime.serve.server_state import Server
from runtime.serve.wire.fields import Fields

__all__ = [
    "Asked",
    "asked_of",
    "capabilities",
    "check_dimensions",
    "embed",
    "prompt_of",
    "require",
]

# Of a capability: what is missing where it is not there.
_MISSING = {
    "text": "has no text encoder",
    "image": "has no image encoder",
    "joint": "has no space that texts and images share",
    "mask": "fills no masks",
    "patches": "embeds no patches of images, so that phrases cannot be located",
}
_DIRECTIONS = ("right", "left")


@dataclass(frozen=True)
class Asked:
    """A request that is being answered.

    Attributes:
        server: of the application.
        caller: who waits.
        began: `time.monotonic()` when its handler was called.
    """

    server: Server
    caller: Caller
    began: float

    @property
    def limits(self) -> Limits:
        """The server's."""
        return self.server.limits

    def headers(self, model: ServedModel) -> dict[str, str]:
        """What it cost, as text-embeddings-inference says it: whole milliseconds."""
        timings = self.caller.timings
        total = _milliseconds(time.monotonic() - self.began)
        return {
            "x-compute-type": f"{model.engine.provider}+optimized",
            "x-compute-time": total,
            "x-compute-characters": str(timings.characters),
            "x-compute-tokens": str(timings.tokens),
            "x-total-time": total,
            "x-tokenization-time": _milliseconds(timings.tokenization),
            "x-queue-time": _milliseconds(timings.queue),
            "x-inference-time": _milliseconds(timings.inference),
        }


def asked_of(request: Request) -> Asked:
    """Who asks whom; the server puts the caller there, see `runtime.serve.operation`."""
    caller = getattr(request.state, "caller", None)
    return Asked(request.app.state.server, Caller() if caller is None else caller, time.monotonic())


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


def capabilities(model: ServedModel) -> dict[str, bool]:
    """What can be asked of a bundle: the names are those of `_MISSING`."""
    engine, manifest = model.engine, model.engine.manifest
    text = manifest.text if "text" in engine.choices else None
    image = manifest.image if "image" in engine.choices else None
    joint = text is not None and image is not None and manifest.joint is not None
    return {
        "text": text is not None,
        "image": image is not None,
        "joint": joint,
        "mask": model.fills_masks,
        "patches": joint and image is not None and image.grid is not None,
    }


def require(model: ServedModel, *needed: str) -> None:
    """Raise RequestError (422) where a bundle cannot do what is asked; it names what it can."""
    there = capabilities(model)
    for name in needed:
        if not there[name]:
            can = ", ".join(each for each, able in there.items() if able)
            raise RequestError("Validation", f"The model {_MISSING[name]}. What it can: {can}. See GET /info.")


def prompt_of(model: ServedModel, fields: Fields) -> str | None:
    """The `prompt_name` of a request; RequestError (422) where the bundle has none of that name."""
    name = fields.text("prompt_name")
    part = model.engine.manifest.text
    known = part.tokenization.prompts if part is not None else {}
    if name is not None and name not in known:
        there = f"it has: {', '.join(known)}" if known else "it has none"
        raise RequestError("Validation", f"The model has no prompt of that name; {there}.", param="prompt_name")
    return name


def check_dimensions(model: ServedModel, fields: Fields) -> None:
    """Raise RequestError (422) where fewer dimensions are asked for than an embedding has: none can be left out."""
    manifest = model.engine.manifest
    part = manifest.text if manifest.text is not None else manifest.image
    assert part is not None
    # Some clients send 0 for all of them.
    if fields.whole("dimensions", 0, 0, 1 << 30) not in (0, part.embedding_size):
        message = f"The model's embeddings have {part.embedding_size} dimensions, none of which can be left out."
        raise RequestError("Validation", message, param=f"{fields.within}dimensions")


async def embed(asked: Asked, model: ServedModel, fields: Fields, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts by the options of text-embeddings-inference: float32 (N, D).

    Of the fields it reads normalize, prompt_name, truncate, truncation_direction and dimensions.
    """
    require(model, "text")
    check_dimensions(model, fields)
    return await model.embed_texts(
        asked.caller,
        texts,
        normalize=fields.flag("normalize", True),
        prompt_name=prompt_of(model, fields),
        truncate=fields.optional_flag("truncate"),
        from_left=fields.choice("truncation_direction", _DIRECTIONS, "right") == "left",
    )
