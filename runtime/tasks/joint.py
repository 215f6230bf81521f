"""Image and text together: similarity scores and similarity maps.

Source: hi-ml-multimodal, `vlp/inference_engine.py` (`ImageTextInferenceEngine`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from runtime.errors import BundleError, InputError
from runtime.process import shown
from runtime.tasks.grounding import Box, Grounding
from runtime.tasks.word_regions import AttentionRule, local_similarity, word_maps

if TYPE_CHECKING:  # Pillow is imported with the first image part
    from runtime.image.encoder import ImageEncoder
    from runtime.image.given_images import ImageLike
    from runtime.image.images import Pixels
    from runtime.text import TextEncoder

__all__ = [
    "Located",
    "average_prompts",
    "gaussian_smooth",
    "ground_phrases",
    "locate_phrases",
    "map_to_image",
    "patch_similarity",
    "word_similarities",
]

_SIGMA = 1.5
_TRUNCATE = 4.0
_EPSILON = np.float32(1e-12)


@dataclass(frozen=True)
class Located:
    """A phrase located patch by patch: a `Grounding` without a map of the image's size, which takes 4 bytes a pixel.

    Attributes:
        patches: float32 (rows, columns), the smoothed similarity of each patch.
        score: global similarity of image and phrase, in [-1, 1].
        size: width and height of the image in pixels.
        square: left, top, width and height in it of what the model sees.
    """

    patches: NDArray[np.float32]
    score: float
    size: tuple[int, int]
    square: tuple[int, int, int, int]

    def enlarged(self) -> Grounding:
        """The same with the map."""
        similarity_map = map_to_image(self.patches, self.size, self.square)
        return Grounding(similarity_map, self.score, Box(*self.square), self.patches)


def ground_phrases(
    text: TextEncoder,
    image: ImageEncoder,
    film: ImageLike,
    phrases: Sequence[str],
    previous: ImageLike | None = None,
    attention: AttentionRule | None = None,
) -> list[Grounding]:
    """Score and map of each phrase in one image, from one run of the image network; see `Engine.ground_phrases`.

    Raises:
        InputError: the image or a phrase cannot be used.
        BundleError: the encoder embeds no patches.
    """
    return [each.enlarged() for each in locate_phrases(text, image, film, phrases, previous, attention)]


def locate_phrases(
    text: TextEncoder,
    image: ImageEncoder,
    film: ImageLike,
    phrases: Sequence[str],
    previous: ImageLike | None = None,
    attention: AttentionRule | None = None,
) -> list[Located]:
    """What `ground_phrases` finds, patch by patch, and raises."""
    if image.grid is None:
        raise BundleError(
            "This bundle embeds images as a whole, without patches on a grid, so that nothing says where in an image a "
            "phrase is. engine.similarity says how well the whole image and a phrase agree."
        )
    if attention is not None:
        return _locate_words(text, image, film, phrases, attention)
    with image.decoded_ahead([film] if previous is None else [film, previous]) as films:
        text_embeds = text.encode(phrases)
    loaded, faults = image.load(films.images)
    if faults:
        raise InputError.from_faults("images", faults, len(films.images))
    size = loaded[0].size
    square = image.seen_square(size)
    if min(square[2:]) < 1:
        raise InputError(f"The image has {size[0]} × {size[1]} pixels: too few for a map.")
    pixels, *before = (each.pixels[None] for each in loaded)
    image_embeds, patch_embeds = image.encode_pixels_and_patches(pixels, *before)
    found = []
    for text_embed in text_embeds:
        patches = patch_similarity(patch_embeds[0], text_embed)
        score = float(np.clip(image_embeds[0] @ text_embed, -1.0, 1.0))
        found.append(Located(patches, score, size, square))
    return found


def _locate_words(
    text: TextEncoder, image: ImageEncoder, film: ImageLike, phrases: Sequence[str], attention: AttentionRule
) -> list[Located]:
    """Maps are the attention of a phrase's words, their mean; GLoRIA shows one for each word."""
    with image.decoded_ahead(film) as films:
        embedded = text.encode_words(phrases)
    if empty := [phrase for phrase, each in zip(phrases, embedded, strict=True) if not each.words]:
        raise InputError(f"Nothing of {shown(empty[0])} is read, so that no word attends to the image. Write more.")
    loaded, square = _loaded(image, films.images)
    image_embeds, regions = image.encode_pixels_and_regions(loaded.pixels[None])
    found = []
    for each in embedded:
        patches = word_maps(each.embeds, regions[0], attention).mean(axis=0)
        score = float(np.clip(image_embeds[0] @ each.text_embed, -1.0, 1.0))
        found.append(Located(patches, score, loaded.size, square))
    return found


def word_similarities(
    text: TextEncoder,
    image: ImageEncoder,
    film: ImageLike,
    texts: Sequence[str],
    attention: AttentionRule | None,
    kind: str,
) -> NDArray[np.float32]:
    """See `Engine.word_similarities`.

    Raises:
        BundleError: words do not attend to regions in this system.
        InputError: the image or a text cannot be used.
    """
    if attention is None:
        raise BundleError(
            "In this system words do not attend to regions of an image: engine.similarity compares whole texts with "
            "whole images. A system in which they do is gloria."
        )
    with image.decoded_ahead(film) as films:
        embedded = text.encode_words(texts)
    loaded, _ = _loaded(image, films.images)
    image_embeds, regions = image.encode_pixels_and_regions(loaded.pixels[None])
    overall = np.clip(np.stack([each.text_embed for each in embedded]) @ image_embeds[0], -1.0, 1.0)
    # GLoRIA counts the characters of a text, less "[", as its words.
    counts = [len(each) - each.count("[") for each in texts]
    local = np.array(
        [
            local_similarity(each.embeds, count, regions[0], attention, text.tokenizer.max_length)
            for each, count in zip(embedded, counts, strict=True)
        ],
        dtype=np.float32,
    )
    return np.asarray({"global": overall, "local": local, "both": (local + overall) / 2}[kind], dtype=np.float32)


def _loaded(image: ImageEncoder, film: ImageLike) -> tuple[Pixels, tuple[int, int, int, int]]:
    """A prepared image, and the square of it that the model sees."""
    loaded, faults = image.load([film])
    if faults:
        raise InputError.from_faults("images", faults, 1)
    square = image.seen_square(loaded[0].size)
    if min(square[2:]) < 1:
        width, height = loaded[0].size
        raise InputError(f"The image has {width} × {height} pixels: too few for a map.")
    return loaded[0], square


def average_prompts(projections: NDArray[np.float32]) -> NDArray[np.float32]:
    """Merge several prompts into one embedding: the mean of their unnormalized embeddings, then normalized.

    Args:
        projections: float32 (prompts, D), not normalized.

    Returns:
        float32 (D,), unit L2 norm.
    """
    mean = projections.mean(axis=0, dtype=np.float32)
    return np.asarray(mean / np.maximum(np.linalg.norm(mean), _EPSILON), dtype=np.float32)


def patch_similarity(patch_embeds: NDArray[np.float32], text_embed: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of every patch with a text, smoothed with a Gaussian of σ = 1.5 patches.

    Args:
        patch_embeds: float32 (rows, columns, D), unit norm.
        text_embed: float32 (D,), unit norm.

    Returns:
        float32 (rows, columns).
    """
    return gaussian_smooth(patch_embeds @ text_embed, _SIGMA)


def gaussian_smooth(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian filter with reflected borders, equal to `scipy.ndimage.gaussian_filter(values, sigma)`.

    A patch grid is so small that the filter is two products with a matrix; SciPy would double the install.

    Args:
        values: (rows, columns).
        sigma: standard deviation in cells.

    Returns:
        float32 (rows, columns).
    """
    rows, columns = values.shape
    smoothed = _smoothing_matrix(rows, sigma) @ values.astype(np.float64) @ _smoothing_matrix(columns, sigma).T
    return np.asarray(smoothed, dtype=np.float32)


def _smoothing_matrix(size: int, sigma: float) -> NDArray[np.float64]:
    radius = int(_TRUNCATE * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    # Positions beyond the border fold back: (d c b a | a b c d | d c b a).
    folded = (np.arange(size)[:, None] + offsets) % (2 * size)
    folded = np.where(folded < size, folded, 2 * size - 1 - folded)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], folded), weights)
    return matrix


def map_to_image(
    similarity: NDArray[np.float32], size: tuple[int, int], square: tuple[int, int, int, int]
) -> NDArray[np.float32]:
    """Enlarge a patch map to the original image: nearest neighbour inside the crop, NaN outside.

    What stands for the black beside an image that was padded is left out.

    Args:
        similarity: float32 (rows, columns).
        size: width and height of the original image in pixels.
        square: left, top, width and height in it of what the model sees, see `ImageEncoder.seen_square`.

    Returns:
        float32 (height, width).
    """
    left, top, width, height = square
    full = np.full((size[1], size[0]), np.nan, dtype=np.float32)
    rows, above = _within(_nearest(height, similarity.shape[0]), top, size[1])
    columns, before = _within(_nearest(width, similarity.shape[1]), left, size[0])
    full[above : above + len(rows), before : before + len(columns)] = similarity[np.ix_(rows, columns)]
    return full


def _within(indices: NDArray[np.intp], start: int, length: int) -> tuple[NDArray[np.intp], int]:
    """Of what begins at `start` the part that lies in 0 … length, and where it begins."""
    return indices[max(0, -start) : max(0, length - start)], max(0, start)


def _nearest(target: int, source: int) -> NDArray[np.intp]:
    """Source index of each target position, with the float32 arithmetic of torch's `interpolate(mode="nearest")`."""
    if target == 0:
        return np.empty(0, dtype=np.intp)
    scale = np.float32(source) / np.float32(target)
    positions = np.floor(np.arange(target, dtype=np.float32) * scale).astype(np.intp)
    return np.asarray(np.minimum(positions, source - 1))
