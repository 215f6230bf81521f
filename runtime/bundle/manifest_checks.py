"""What no type says of a manifest: that its numbers can be meant, and agree with each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from runtime.bundle.artifacts import Artifact
from runtime.bundle.parts import (
    CLEANINGS,
    COLOURS,
    CROP_ROUNDINGS,
    CUT,
    INTERPOLATIONS,
    REFUSED,
    RESIZES,
    SCORES,
    TOKENIZERS,
    ImagePart,
    Joint,
    Preprocessing,
    TextPart,
)

__all__ = ["part_faults"]

# Far beyond any model of this kind; with more a damaged number would ask for all the memory there is.
_LARGEST = 1 << 16
_SHORTEST_TEXT = 3  # [CLS], one token, [SEP]
_CHANNELS = 3


def part_faults(text: TextPart | None, image: ImagePart | None, joint: Joint | None = None) -> list[str]:
    """What is wrong with the parts' numbers, in words; empty if nothing is.

    Args:
        text: of the manifest.
        image: of the manifest.
        joint: of the manifest.
    """
    faults: list[str] = []
    if text is not None:
        rules = text.tokenization
        faults += _out_of_range("text", {"max_length": rules.max_length}, _SHORTEST_TEXT)
        if rules.default_prompt is not None and rules.default_prompt not in rules.prompts:
            faults.append(f"text.default_prompt is {rules.default_prompt!r}, which is none of its prompts")
        for name, value, known in (
            ("tokenizer", rules.tokenizer, TOKENIZERS),
            ("too_long", rules.too_long, (REFUSED, CUT)),
            ("cleaning", rules.cleaning, CLEANINGS),
        ):
            if value not in known:
                faults.append(f"text.{name} is {value!r}; one of {', '.join(map(repr, known))} is expected")
        faults += _out_of_range("text", {"embedding_size": text.embedding_size})
        faults += _wrong_axes(text.artifacts, "outputs", {"text_embeds": (text.embedding_size,)})
    if image is not None:
        pixels = image.preprocessing
        numbers = {"size": pixels.size, "crop": pixels.crop, "embedding_size": image.embedding_size}
        faults += _out_of_range("image", numbers | ({"grid": image.grid} if image.grid is not None else {}))
        if pixels.crop > pixels.size:
            faults.append(f"image.crop is {pixels.crop}, more than image.size, {pixels.size}")
        outputs: dict[str, tuple[int, ...]] = {"image_embeds": (image.embedding_size,)}
        if image.grid is not None:
            outputs["patch_embeds"] = (image.grid, image.grid, image.embedding_size)
        faults += _preprocessing_faults(pixels)
        shapes = dict.fromkeys(("pixel_values", "previous_pixel_values"), pixels.shape)
        faults += _wrong_axes(image.artifacts, "inputs", shapes)
        if image.images not in (1, 2):
            faults.append(f"image.images is {image.images}; 1, or 2 (a current and a previous one), is expected")
        faults += _wrong_axes(image.artifacts, "outputs", outputs)
    if joint is not None:
        faults += _joint_faults(joint, {"text": text, "image": image})
    return faults


def _joint_faults(joint: Joint, parts: Mapping[str, TextPart | ImagePart | None]) -> list[str]:
    faults = _unknown("joint", joint, {"score": SCORES})
    faults += [
        f"joint.embedding_size is {joint.embedding_size}, {name}.embedding_size is {part.embedding_size}"
        for name, part in parts.items()
        if part is not None and part.embedding_size != joint.embedding_size
    ]
    if not 0 < joint.logit_scale < math.inf or not math.isfinite(joint.logit_bias):
        faults.append(
            f"joint.logit_scale is {joint.logit_scale} and joint.logit_bias {joint.logit_bias}; a number of more than "
            "0 and a finite one are expected"
        )
    faults += [f"joint.templates has {each!r}, without a {{}}" for each in joint.templates if "{}" not in each]
    return faults


def _preprocessing_faults(pixels: Preprocessing) -> list[str]:
    known = {
        "colours": COLOURS,
        "resize": RESIZES,
        "interpolation": INTERPOLATIONS,
        "crop_rounding": CROP_ROUNDINGS,
    }
    faults = _unknown("image.preprocessing", pixels, known)
    counts = {len(pixels.mean), len(pixels.std)}
    if len(counts) > 1 or not counts <= {1, _CHANNELS}:
        faults.append(
            f"image.preprocessing has {len(pixels.mean)} values of mean and {len(pixels.std)} of std; one each, or "
            f"{_CHANNELS}, are expected"
        )
    if not all(map(math.isfinite, pixels.mean)) or not all(0 < each < math.inf for each in pixels.std):
        faults.append("image.preprocessing has a mean that is not finite, or a std that is not more than 0")
    return faults


def _unknown(where: str, part: object, known: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Fields whose values this version does not know."""
    return [
        f"{where}.{name} is {getattr(part, name)!r}; this version knows: {', '.join(values)}"
        for name, values in known.items()
        if getattr(part, name) not in values
    ]


def _out_of_range(part: str, numbers: Mapping[str, int], least: int = 1) -> list[str]:
    return [
        f"{part}.{name} is {number}; {least} to {_LARGEST} is expected"
        for name, number in numbers.items()
        if not least <= number <= _LARGEST
    ]


def _wrong_axes(artifacts: Iterable[Artifact], kind: str, expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Tensors whose last axes are fixed at something else than the part says; a name means any number."""
    faults = []
    for artifact in artifacts:
        for tensor in getattr(artifact, kind):
            axes = expected.get(tensor.name, ())
            found = tensor.axes[len(tensor.axes) - len(axes) :] if axes else ()
            agree = len(found) == len(axes) and all(
                isinstance(one, str) or one == other for one, other in zip(found, axes, strict=False)
            )
            if not agree:
                faults.append(f"{artifact.file} has {tensor.name} of {list(tensor.axes)}, the part says {list(axes)}")
    return faults
