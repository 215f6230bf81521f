"""preprocessor_config.json → the rule from a picture to its pixels.

Source: transformers, `image_processing_clip.py` and `image_processing_utils.py` (the old form: sizes as whole numbers).
Pillow's filters are the reference, as they were when the weights were published; transformers 5 computes with
torchvision where it is installed, which gives other pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from export.checkpoints.signatures import read_json
from export.errors import CheckpointError
from runtime.bundle.parts import INTERPOLATIONS, Preprocessing

__all__ = ["read_preprocessor"]

_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")


def read_preprocessor(path: Path, default: Preprocessing) -> Preprocessing:
    """The rule that a preprocessor_config.json states.

    Args:
        path: the file.
        default: what transformers does where the file is silent.

    Raises:
        CheckpointError: it cannot be read, or asks for something else than resizing, cropping, 1/255, mean and std; all
            of that is listed.
    """
    config = read_json(path)
    wrong = [f"{step}={config[step]!r}" for step in _STEPS if config.get(step, True) is not True]
    factor = config.get("rescale_factor", 1 / 255)
    if not isinstance(factor, float) or abs(factor - 1 / 255) > 1e-9:
        wrong.append(f"rescale_factor={factor!r} (1/255 is expected)")
    resize, size = _size(config.get("size", default.size))
    crop = _square(config.get("crop_size", default.crop))
    filters = {int(each): each.name.lower() for each in Image.Resampling if each.name.lower() in INTERPOLATIONS}
    resample = config.get("resample", int(Image.Resampling[default.interpolation.upper()]))
    statistics = [
        _channels(config, key, getattr(default, key.removeprefix("image_"))) for key in ("image_mean", "image_std")
    ]
    for name, value in (("size", size), ("crop_size", crop)):
        if value is None:
            wrong.append(f"{name}={config.get(name)!r}")
    if resample not in filters:
        wrong.append(f"resample={resample!r} (one of {', '.join(f'{key} {name}' for key, name in filters.items())})")
    wrong += [
        f"{key}={config.get(key)!r}"
        for key, value in zip(("image_mean", "image_std"), statistics, strict=True)
        if not value
    ]
    if wrong or size is None or crop is None:
        raise CheckpointError(f"{path} prepares images in a way that is not exported: {', '.join(wrong)}.")
    if size < crop:
        raise CheckpointError(
            f"{path}: images of {size} pixels are smaller than the crop of {crop}, and would be padded."
        )
    mean, std = statistics
    return replace(default, resize=resize, size=size, crop=crop, interpolation=filters[resample], mean=mean, std=std)


def _size(value: object) -> tuple[str, int | None]:
    """Which side is resized, and to how many pixels; None for what cannot be used."""
    if isinstance(value, Mapping) and set(value) == {"shortest_edge"}:
        value = value["shortest_edge"]
    elif isinstance(value, Mapping | list):
        return "squash", _square(value)
    return "shortest", value if type(value) is int and value > 0 else None


def _square(value: object) -> int | None:
    """The side of a square, written as a number, as height and width, or as both in a list."""
    if isinstance(value, Mapping):
        value = [value.get("height"), value.get("width")]
    sides = value if isinstance(value, list) else [value, value]
    if len(sides) != 2 or sides[0] != sides[1]:
        return None
    side = sides[0]
    return side if isinstance(side, int) and not isinstance(side, bool) and side > 0 else None


def _channels(config: Mapping[str, Any], key: str, default: tuple[float, ...]) -> tuple[float, ...]:
    """Mean or std of three channels; empty for what cannot be used."""
    found = config.get(key, list(default))
    numbers = found if isinstance(found, list | tuple) else [found] * 3
    good = len(numbers) == 3 and all(isinstance(each, int | float) and not isinstance(each, bool) for each in numbers)
    if not good or (key == "image_std" and not all(each > 0 for each in numbers)):
        return ()
    return tuple(float(each) for each in numbers)
