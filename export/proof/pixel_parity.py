"""Compare the runtime's pixels with those of the libraries that the references prepare images with: identical.

OpenCV's INTER_AREA is not needed for that: where an image shrinks, its pixels are the exact means, rounded.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize, v2

from export.samples import chest_phantom
from runtime.bundle import ParityRecord
from runtime.bundle.parts import AREA, GREY, LUMINANCE, RGB, RGB_AFTER, Preprocessing
from runtime.image.images import load_pixels

__all__ = ["exact_pixels", "pixel_parity", "preprocessor_config", "reference_pixels"]

# OpenCV sums up in float32: what lies so near to a half may be rounded either way.
_TIE = 1e-3
_SIZES = ((512, 512), (480, 480), (513, 769), (1031, 640), (300, 411), (97, 1400), (2048, 1501))


_COLOURED = (RGB, RGB_AFTER)


def preprocessor_config(rule: Preprocessing) -> dict[str, object]:
    """What preprocessor_config.json says, as transformers' image processors with the Pillow backend understand it.

    Neither 1/255 nor mean and std: the graph has them. Of grey images the first two keys are this project's own, and so
    is "longest_edge", which is padded to a square.
    """
    grey: dict[str, object] = {"do_convert_grayscale": True, "do_rescale_to_uint8": "min-max"}
    size = {
        "shortest": {"shortest_edge": rule.size},
        "longest": {"longest_edge": rule.size},
        "longest by factor": {"longest_edge": rule.size},
        "squash": {"height": rule.size, "width": rule.size},
    }
    colours: dict[str, dict[str, object]] = {
        GREY: grey,
        LUMINANCE: {"do_convert_grayscale": True},
        RGB: {"do_convert_rgb": True},
        RGB_AFTER: {"do_convert_rgb": True},
    }
    # Of Pillow's filters the box is OpenCV's "area", but for its rounding.
    filtered = "BOX" if rule.interpolation == AREA else rule.interpolation.upper()
    return {
        **colours[rule.colours],
        "do_resize": True,
        "size": size[rule.resize],
        "resample": int(Image.Resampling[filtered]),
        "do_center_crop": True,
        "crop_size": {"height": rule.crop, "width": rule.crop},
        "do_rescale": False,
        "do_normalize": False,
    }


def reference_pixels(image: Image.Image, rule: Preprocessing) -> NDArray[np.uint8]:
    """Pixels as torchvision's transforms make them, or transformers' Pillow backend where the crop is rounded down.

    Args:
        image: a Pillow image of 8 bits in any mode; for grey rules stretched to 0–255.
        rule: of the image tower.

    Returns:
        uint8 of `rule.shape`.
    """
    if rule.colours != RGB_AFTER:
        image = image.convert("RGB" if rule.colours == RGB else "L")
    interpolation = InterpolationMode[rule.interpolation.upper()]
    resized = {
        "shortest": Resize(rule.size, interpolation),
        # A centre crop of what is smaller pads it.
        "longest": Compose([v2.Resize(None, interpolation, max_size=rule.size), CenterCrop(rule.size)]),
        "squash": Resize((rule.size, rule.size), interpolation),
    }
    if rule.crop_rounding == "even":
        cropped = CenterCrop(rule.crop)(resized[rule.resize](image))
        pixels = np.asarray(cropped.convert("RGB") if rule.colours == RGB_AFTER else cropped)
        return pixels.transpose(2, 0, 1) if rule.colours in _COLOURED else pixels
    config = preprocessor_config(rule)
    if rule.resize == "longest":
        image, config["do_resize"] = resized[rule.resize](image), False
    pixels = np.asarray(_image_processor()(**config)(image)["pixel_values"][0])
    return pixels if rule.colours in _COLOURED else pixels[0]


def exact_pixels(image: Image.Image, rule: Preprocessing) -> NDArray[np.float64]:
    """What GLoRIA's pixels are before they are rounded: means of the areas under them, the rest black.

    Args:
        image: as for `reference_pixels`, its longer side more than the rule's size.
        rule: "luminance", "longest by factor" and "area".

    Returns:
        float64 of `rule.shape`, 0 to 255.
    """
    values = np.asarray(image.convert("L"), dtype=np.float64)
    factor = rule.size / max(image.size)
    height, width = (rule.size if side == max(image.size) else int(side * factor) for side in values.shape)
    square = np.zeros((rule.size, rule.size))
    top, left = (rule.size - height) // 2, (rule.size - width) // 2
    means = _overlaps(values.shape[0], height) @ values @ _overlaps(values.shape[1], width).T
    square[top : top + height, left : left + width] = means
    start = round((rule.size - rule.crop) / 2)
    return square[start : start + rule.crop, start : start + rule.crop]


def _overlaps(old: int, new: int) -> NDArray[np.float64]:
    """Share of each old pixel in each new one: (new, old)."""
    ends = np.arange(1, new + 1)[:, None] * (old / new), np.arange(1, old + 1)[None]
    starts = ends[0] - old / new, ends[1] - 1
    overlaps: NDArray[np.float64] = np.maximum(0, np.minimum(*ends) - np.maximum(*starts)) * (new / old)
    return overlaps


def _same(found: NDArray[np.uint8], image: Image.Image, rule: Preprocessing) -> bool:
    if rule.interpolation == AREA:
        return bool(np.abs(found - exact_pixels(image, rule)).max() <= 0.5 + _TIE)
    return np.array_equal(found, reference_pixels(image, rule))


def pixel_parity(rule: Preprocessing) -> ParityRecord:
    """Compare the runtime's pixels with the reference's, on generated images of 8 and 16 bit and odd sizes.

    For colours there are RGB images as well, with transparency and with a palette.

    Returns:
        Figure: differing, the number of images of which any byte differs.
    """
    phantoms = _phantoms()
    given: list[NDArray[np.uint8] | NDArray[np.uint16] | Image.Image] = [*phantoms]
    expected = [Image.fromarray(_stretched(array) if rule.colours == GREY else array) for array in phantoms]
    deep = [array.astype(np.uint16) * 97 + 1000 for array in phantoms]
    given += deep
    expected += [Image.fromarray(_stretched(array)) for array in deep]
    if rule.colours in _COLOURED:
        coloured = _coloured()
        given += coloured
        expected += coloured
    loaded, faults = load_pixels(given, rule)
    differing = len(faults) + sum(
        not _same(found.pixels, image, rule) for found, image in zip(loaded, expected, strict=True)
    )
    library = "torchvision" if rule.crop_rounding == "even" else "transformers (Pillow backend)"
    if rule.interpolation == AREA:
        library = "exact means of areas"
    kinds = "8 and 16 bit, in RGB, with transparency and palettes" if rule.colours in _COLOURED else "8 and 16 bit"
    return ParityRecord(
        "none",
        f"{library}: {rule.resize} {rule.size}, {rule.interpolation}, centre {rule.crop}",
        f"pixels of {len(given)} phantoms of {kinds}, {len(_SIZES)} sizes",
        {"differing": float(differing)},
        {"differing": 0.0},
    )


def _image_processor() -> type:
    try:
        from transformers import CLIPImageProcessorPil as Processor
    except ImportError:  # transformers 4, whose own is that
        from transformers import CLIPImageProcessor as Processor
    processor: type = Processor
    return processor


def _stretched(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    values = array.astype(float) - array.min()
    stretched: NDArray[np.uint8] = (values / values.max() * 255).astype(np.uint8)
    return stretched


@functools.cache
def _phantoms() -> tuple[NDArray[np.uint8], ...]:
    """Drawn once: that takes many times as long as the comparison."""
    return tuple(chest_phantom(height, width, index) for index, (height, width) in enumerate(_SIZES))


@functools.cache
def _coloured() -> tuple[Image.Image, ...]:
    """Each phantom with other values in each channel, by turns as RGB, with transparency, and with a palette."""
    found = []
    for index, array in enumerate(_phantoms()):
        channels = (array, 255 - array, np.roll(array, array.shape[1] // 3, axis=1))
        image = Image.merge("RGB", [Image.fromarray(channel) for channel in channels])
        if index % 3 == 1:
            image.putalpha(Image.fromarray(array))
        found.append(image.quantize(64) if index % 3 == 2 else image)
    return tuple(found)
