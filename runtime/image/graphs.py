"""The graphs of an image encoder: of single images, of their patches, and of a current image with a previous one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.engines import Sessions
from runtime.errors import InputError
from runtime.image.batches import cut, run
from runtime.process import array_of
from runtime.process.forks import ForkSafeLock
from runtime.process.workers import ordered_map

__all__ = ["PIXELS", "PREVIOUS_PIXELS", "ImageGraphs"]

# Their inputs.
PIXELS, PREVIOUS_PIXELS = "pixel_values", "previous_pixel_values"


_PATCHES = "patch_embeds"


class _Later:
    """Sessions of a graph that is opened when it is first needed."""

    def __init__(self, open_sessions: Callable[[], Sessions]) -> None:
        self._open_sessions = open_sessions
        self._opened: Sessions | None = None
        self._lock = ForkSafeLock()

    def sessions(self) -> Sessions:
        with self._lock:
            if self._opened is None:
                self._opened = self._open_sessions()
            return self._opened


class ImageGraphs:
    """Computes prepared images, each on the graph that it is for.

    Attributes:
        single: sessions of the graph of single images.
        batch: images computed together; of pairs half as many, which are as many images.
    """

    def __init__(
        self,
        single: Sessions,
        batch: int,
        shape: tuple[int, ...],
        open_pairs: Callable[[], Sessions] | None = None,
        open_patches: Callable[[], Sessions] | None = None,
    ) -> None:
        """Wrap the opened graph; the others are opened when they are needed.

        Args:
            single: of the graph of single images.
            batch: images computed together, at least 1.
            shape: of one image's pixels.
            open_pairs: opens the graph of pairs; None where the system has none.
            open_patches: opens the graph that embeds patches; None where that of single images does.
        """
        self.single = single
        self.batch = batch
        self._shape = shape
        self._pairs = _Later(open_pairs) if open_pairs else None
        self._patches = _Later(open_patches) if open_patches else None

    def check_previous(self, previous: object) -> None:
        """Raise InputError where previous images came that the system has no use for."""
        if previous is not None and self._pairs is None:
            raise InputError(
                "previous= came, but this system embeds one image at a time: leave it out. Systems that compare a "
                "current image with a previous one, such as biovil-t, take it."
            )

    def ready(self, bulk: bool, paired: bool, outputs: Sequence[str]) -> None:
        """Open what will be needed, rather now than in the midst of the work.

        Args:
            bulk: whether calls are computed side by side.
            paired: whether there are previous images.
            outputs: that will be asked for.

        Raises:
            BundleError, InputError, ProviderError: it cannot be.
        """
        for sessions in (self._alone(outputs), *([self.pairs] if paired else [])):
            if bulk:
                sessions.bulk()

    @property
    def pairs(self) -> Sessions:
        """Of the graph of pairs.

        Raises:
            BundleError: the bundle has none for this engine in this precision, or it was changed.
            InputError: the system has none.
            ProviderError: it cannot be opened.
        """
        self.check_previous(True)
        assert self._pairs is not None, "checked before"
        return self._pairs.sessions()

    def _alone(self, outputs: Sequence[str]) -> Sessions:
        """Of the graph that embeds single images, and their patches where those are asked for."""
        return self.single if self._patches is None or _PATCHES not in outputs else self._patches.sessions()

    def run(
        self,
        pixels: NDArray[np.uint8],
        previous: Mapping[int, NDArray[np.uint8]],
        outputs: Sequence[str],
        bulk: bool,
    ) -> list[NDArray[np.float32]]:
        """Compute prepared images.

        Args:
            pixels: uint8 (N, …), as the graph reads them.
            previous: row → the pixels of its previous image; the other rows are computed alone.
            outputs: names.
            bulk: whether other calls are computed side by side.

        Returns:
            Each output for all rows.
        """
        if not previous:
            return self._compute(self._alone(outputs), {PIXELS: pixels}, outputs, bulk, self.batch)
        paired = sorted(previous)
        current = pixels if len(paired) == len(pixels) else pixels[paired]
        feeds = {PIXELS: current, PREVIOUS_PIXELS: np.stack([previous[row] for row in paired])}
        compared = self._compute(self.pairs, feeds, outputs, bulk, max(1, self.batch // 2))
        if len(paired) == len(pixels):
            return compared
        alone = [row for row in range(len(pixels)) if row not in previous]
        found = []
        single = self._compute(self._alone(outputs), {PIXELS: pixels[alone]}, outputs, bulk, self.batch)
        for one, other in zip(single, compared, strict=True):
            merged = np.empty((len(pixels), *one.shape[1:]), one.dtype)
            merged[alone], merged[paired] = one, other
            found.append(merged)
        return found

    def run_prepared(
        self, pixels: NDArray[np.uint8], previous: NDArray[np.uint8] | None, outputs: Sequence[str]
    ) -> list[NDArray[np.float32]]:
        """Compute what a caller prepared; see `ImageEncoder.encode_pixels`.

        Raises:
            InputError: a wrong dtype or shape, or previous images for a system of single ones.
        """
        self.check_previous(previous)
        pixels = self._checked(PIXELS, pixels)
        before = () if previous is None else self._checked(PREVIOUS_PIXELS, previous)
        if previous is not None and len(before) != len(pixels):
            raise InputError(
                f"{PREVIOUS_PIXELS} has {len(before)} images and {PIXELS} {len(pixels)}; as many are expected."
            )
        return self.run(pixels, dict(enumerate(before)), outputs, self.single.apart and len(pixels) > 1)

    def run_in_bulk(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed prepared images in batches side by side; see `ImageEncoder.encode_pixels_in_bulk`."""
        self.ready(bulk=True, paired=False, outputs=[])

        def embed(each: NDArray[np.uint8]) -> NDArray[np.float32]:
            return self.run(each, {}, ["image_embeds"], True)[0]

        streams = self.single.streams
        return np.concatenate(list(ordered_map(embed, cut(pixels, self.batch), streams if streams > 1 else 0)))

    def _checked(self, name: str, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        expected = f"uint8 (N, {', '.join(map(str, self._shape))})"
        pixels = array_of(name, pixels, expected)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != self._shape:
            raise InputError(
                f"{name} is {pixels.dtype} {pixels.shape}; {expected} is expected. Pass images that are not prepared "
                "to encode()."
            )
        return pixels

    def _compute(
        self,
        sessions: Sessions,
        feeds: Mapping[str, NDArray[np.uint8]],
        outputs: Sequence[str],
        bulk: bool,
        size: int,
    ) -> list[NDArray[np.float32]]:
        session = sessions.bulk() if bulk else sessions.single
        # Where the session for bulk work is apart, all its batches are of one size.
        return run(session, feeds, outputs, size, sessions.apart and session is not sessions.single)
