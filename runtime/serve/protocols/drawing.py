"""Pictures as answers: PNG files, made off the event loop."""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from PIL import Image

from runtime.process.wording import RANDOM_WEIGHTS, RESEARCH_ONLY
from runtime.serve.models.contract import ServedModel
from runtime.tasks.joint import Located

__all__ = ["overlay", "png"]

# One at a time: a drawing takes as much memory as hundreds of requests, and a second more of a core brings nothing.
_DRAWER = ThreadPoolExecutor(1, thread_name_prefix="drawing")
# Longest side of what is drawn on, in pixels: more than the drawing has.
_SIDE = 1600
_COMPRESSION = 1


async def overlay(model: ServedModel, picture: Image.Image, located: Located, phrase: str) -> bytes:
    """The drawing of a grounded phrase, see `runtime.tasks.overlay`, as a PNG file.

    Args:
        model: whose answer it is.
        picture: as `ServedModel.picture` gives it.
        located: in that picture.
        phrase: the text.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    is_random = model.engine.manifest.source.kind == "random"
    note = f"{RANDOM_WEIGHTS} {RESEARCH_ONLY}" if is_random else RESEARCH_ONLY
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_DRAWER, _draw, picture, located, phrase, note)


async def png(picture: Image.Image, side: int | None = None) -> bytes:
    """A picture as a PNG file, without whatever else its file said.

    Args:
        picture: mode "L" or "RGB".
        side: at most so many pixels in width and height; None keeps its size.
    """
    return await asyncio.to_thread(_encode, picture, side)


def _draw(picture: Image.Image, located: Located, phrase: str, note: str) -> bytes:
    from runtime.tasks.overlay import render_overlay

    factor = -(-max(picture.size) // _SIDE)
    if factor > 1:
        picture = picture.reduce(factor)
        left, top, width, height = (round(each / factor) for each in located.square)
        located = replace(located, size=picture.size, square=(left, top, max(1, width), max(1, height)))
    return render_overlay(picture, located.enlarged(), phrase, note=note)


def _encode(picture: Image.Image, side: int | None) -> bytes:
    if side is not None and max(picture.size) > side:
        picture = picture.reduce(max(1, min(picture.size) // (2 * side)))
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=_COMPRESSION)
    return stream.getvalue()
