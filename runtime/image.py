"""Images → embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from runtime.errors import Fault, InputError
from runtime.images import ImageLike, Pixels, as_image_list, load_pixels
from runtime.manifest import ImagePart
from runtime.session import Session

__all__ = ["ImageEncoder"]

# Images decoded and computed together. Measured with ONNX Runtime on 2 cores, per image: 214 ms one by one, 195 in
# fours, 216 in eights.
_BATCH = 4


class ImageEncoder:
    """The image half of an engine.

    Attributes:
        embedding_size: length of an embedding (128 for BioViL).
        grid: patches per side (15 for BioViL).
        resize: shorter side after resizing, in pixels (512 for BioViL).
        crop: side of the centre crop that the graph reads, in pixels (480 for BioViL).
    """

    def __init__(self, part: ImagePart, session: Session, invert_monochrome1: bool = True) -> None:
        self.embedding_size = part.embedding_size
        self.grid = part.grid
        self.resize = part.resize
        self.crop = part.crop
        self._invert_monochrome1 = invert_monochrome1
        self._session = session

    def encode(self, images: ImageLike | Iterable[ImageLike]) -> NDArray[np.float32]:
        """Embed one image or many in the space shared with texts.

        Each row is the spatial mean of the projected patches, normalized after the mean (reference:
        `ImageInferenceEngine.get_projected_global_embedding`).

        Args:
            images: a path (JPEG, PNG, DICOM, NIfTI), a Pillow image, an array (H, W) or (H, W, channels), or any
                number of those in any order.

        Returns:
            float32 (N, 128), row i for image i, unit L2 norm.

        Raises:
            InputError: no images, or images that are unreadable, constant or of a wrong shape; each is named. What
                fails together is decoded together, so the list covers one batch.
            MissingExtraError: a file's format needs an optional package.
        """
        return self._encode(images, "image_embeds", (self.embedding_size,))

    def encode_patches(self, images: ImageLike | Iterable[ImageLike]) -> NDArray[np.float32]:
        """Embed every patch of one image or many (reference: `get_projected_patch_embeddings`).

        Args:
            images: as for `encode`.

        Returns:
            float32 (N, 15, 15, 128): image, row from the top, column from the left, unit L2 norm along the last axis.

        Raises:
            InputError: as for `encode`.
            MissingExtraError: as for `encode`.
        """
        return self._encode(images, "patch_embeds", (self.grid, self.grid, self.embedding_size))

    def encode_iter(
        self,
        images: Iterable[ImageLike],
        *,
        on_fault: Callable[[Fault], None] | None = None,
    ) -> Iterator[NDArray[np.float32] | None]:
        """Embed any number of images, in order and in bounded memory.

        Args:
            images: as for `encode`, taken as embeddings are consumed.
            on_fault: called with each image that cannot be used (`Fault.index` counts from the first image); its
                embedding is None. Without it such an image raises InputError.

        Yields:
            float32 (128,) for each image, in the order given.

        Raises:
            InputError: as for `encode`, but an empty iterable yields nothing.
            MissingExtraError: as for `encode`.
        """
        start = 0
        remaining = iter(images)
        while window := list(islice(remaining, _BATCH)):
            loaded, faults = self.load(window)
            faults = [Fault(start + fault.index, fault.name, fault.reason) for fault in faults]
            if faults:
                if on_fault is None:
                    raise InputError.from_faults("images", faults, start + len(window))
                for fault in faults:
                    on_fault(fault)
            bad = {fault.index - start for fault in faults}
            embeddings = iter(self.encode_pixels(np.stack([item.pixels for item in loaded])) if loaded else ())
            yield from (None if index in bad else next(embeddings) for index in range(len(window)))
            start += len(window)

    def load(self, images: list[ImageLike]) -> tuple[list[Pixels], list[Fault]]:
        """Decode, remap, resize and crop images without embedding them.

        Returns:
            The usable images (uint8 (480, 480) and the original size) in order, and a fault for each of the others.

        Raises:
            MissingExtraError: as for `encode`.
        """
        return load_pixels(images, self.resize, self.crop, self._invert_monochrome1)

    def encode_pixels(self, pixels: NDArray[np.uint8], output: str = "image_embeds") -> NDArray[np.float32]:
        """Embed prepared pixels.

        Args:
            pixels: uint8 (N, 480, 480), as `load` gives them.
            output: "image_embeds" or "patch_embeds".

        Returns:
            As `encode` or `encode_patches`.

        Raises:
            InputError: a wrong dtype or shape.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[1:] != (self.crop, self.crop):
            raise InputError(
                f"pixel_values is {pixels.dtype} {pixels.shape}; uint8 (N, {self.crop}, {self.crop}) is expected. "
                "Pass images that are not prepared to encode()."
            )
        return self._session.run([output], {"pixel_values": pixels})[0]

    def _encode(
        self, images: ImageLike | Iterable[ImageLike], output: str, shape: tuple[int, ...]
    ) -> NDArray[np.float32]:
        listed = as_image_list(images)
        embeddings = np.empty((len(listed), *shape), dtype=np.float32)
        for start, batch in self._batches(listed):
            embeddings[start : start + len(batch)] = self.encode_pixels(batch, output)
        return embeddings

    def _batches(self, images: list[ImageLike]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for start in range(0, len(images), _BATCH):
            loaded, faults = self.load(images[start : start + _BATCH])
            if faults:
                faults = [Fault(start + fault.index, fault.name, fault.reason) for fault in faults]
                raise InputError.from_faults("images", faults, len(images))
            yield start, np.stack([item.pixels for item in loaded])
