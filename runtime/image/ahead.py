"""Images that are decoded while the prompts are embedded, which they are compared with.

Decoding keeps one thread busy, for 21 ms of a JPEG of 2,500 × 2,048 pixels, and an inference session leaves gaps on all
of them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from PIL import Image

from runtime.image.given_images import Decoded, is_encoded

__all__ = ["DecodedAhead"]


class DecodedAhead:
    """Decodes images one after the other on a thread of its own, as long as its `with` block lasts.

    What goes wrong with an image is kept with it and raised where the image is used. Nothing of what was given is used
    before its time but files, bytes and Pillow images, alone or in a list or tuple: an iterator is not begun.

    Attributes:
        images: those given; after the block what was decoded until then takes the place of its image.
        previous: alike.
    """

    def __init__(self, decode: Callable[[Any], Decoded] | None, images: Any, previous: Any = None) -> None:
        """Nothing is begun yet.

        Args:
            decode: an image → what became of it; None decodes nothing ahead.
            images: as `ImageEncoder.encode` takes them.
            previous: alike, or None.
        """
        self.images = images
        self.previous = previous
        self._decode = decode
        self._done: dict[int, Decoded] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> DecodedAhead:
        waiting = [image for image in (*_each(self.images), *_each(self.previous)) if _is_picture(image)]
        if self._decode is None or not waiting:
            return self
        # Not a daemon: a process that ends amid a decoder's own code would crash. Not a pool: it takes no work once
        # the main thread has ended.
        thread = threading.Thread(target=self._work, args=(self._decode, waiting), name="cxr-ahead")
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the process is ending: decoded when their time comes
            return self
        self._thread = thread
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self.images, self.previous = self._with_decoded(self.images), self._with_decoded(self.previous)

    def _work(self, decode: Callable[[Any], Decoded], waiting: Iterable[Any]) -> None:
        for image in waiting:
            if self._ended.is_set():
                return
            if id(image) not in self._done:  # several times the same one is decoded once
                self._done[id(image)] = decode(image)

    def _with_decoded(self, given: Any) -> Any:
        if isinstance(given, (list, tuple)):
            return [self._done.get(id(image), image) for image in given]
        return self._done.get(id(given), given)


def _each(given: Any) -> Iterable[Any]:
    return given if isinstance(given, (list, tuple)) else [given]


def _is_picture(image: Any) -> bool:
    """Whether there is something to decode: arrays and prepared images are taken as they are."""
    return isinstance(image, (str, os.PathLike, Image.Image)) or is_encoded(image)
