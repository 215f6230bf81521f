"""Pictures decoded on threads of this process."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from runtime.engine import Engine
from runtime.errors import DecodeError, Fault, InputError
from runtime.serve.caller import Caller
from runtime.serve.limits import Limits

if TYPE_CHECKING:
    from PIL.Image import Image

    from runtime.image.given_images import Pixels

__all__ = ["PlainDecoder"]


class PlainDecoder:
    """Decodes as the engine does."""

    def __init__(self, engine: Engine, limits: Limits, threads: ThreadPoolExecutor) -> None:
        self._engine = engine
        self._threads = threads

    async def decode(self, images: list[bytes], caller: Caller) -> list[Pixels]:
        """Pixels of pictures; raises InputError with faults."""
        loop = asyncio.get_running_loop()
        pixels, faults = await loop.run_in_executor(self._threads, self._engine.image.load, list(images))
        if faults:
            raise InputError.from_faults("images", faults, len(images))
        return pixels

    async def picture(self, image: bytes) -> Image:
        """A picture at its full size."""
        from runtime.image.images import read_picture

        encoder = self._engine.image
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._threads, read_picture, image, encoder.preprocessing.colours, encoder.dicom
            )
        except DecodeError as error:
            raise InputError.from_faults("images", [Fault(0, "image", str(error))], 1) from None

    def close(self) -> None:
        """Nothing to close."""
