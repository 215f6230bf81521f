"""How a finding changes between a previous image and a current one, by prompts.

The classes are those of MS-CXR-T (Bannur et al., "Learning to Exploit Temporal Structure for Biomedical Vision–Language
Processing", CVPR 2023): improving, stable, worsening. hi-ml-multimodal has no such function. Here the embedding of the
pair of images (hi-ml's `MultiImageModel`) is compared with sentences in the joint space, by default the classes' names
said of the finding; the paper's figures are not to be expected of that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from runtime.errors import BundleError, Fault, InputError
from runtime.process import shown
from runtime.process.checks import missing

if TYPE_CHECKING:  # Pillow is imported with the first image part
    from runtime.image.encoder import ImageEncoder
    from runtime.image.given_images import ImageLike
    from runtime.tasks.zero_shot import ZeroShotClassifier

__all__ = ["CHANGES", "change_prompts", "check_images", "progression"]

# Class → what is said of a finding, "{}" standing for it.
CHANGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: (f"{{}} is {name}",) for name in ("improving", "stable", "worsening")}
)


def check_images(images: int | None) -> None:
    """Make sure that a system compares images.

    Args:
        images: of its `ImagePart`; None where it has no image part, which is said elsewhere.

    Raises:
        BundleError: it embeds single ones.
    """
    if images == 1:
        raise BundleError(
            "This bundle embeds single images, and progression compares a current image with a previous one. Use a "
            "system that takes both, such as biovil-t; of single images engine.classify says what they show."
        )


def change_prompts(finding: str | Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """The prompts of each class.

    Args:
        finding: what changes, such as "pleural effusion"; or one's own {class: prompts}.

    Raises:
        InputError: a blank finding, or something else.
    """
    if isinstance(finding, Mapping):
        return finding
    if not isinstance(finding, str) or not finding.strip():
        raise InputError(
            f"The finding is {shown(finding)}; a phrase such as 'pleural effusion', or {{class: prompts}}, is expected."
        )
    return {name: [each.replace("{}", finding.strip()) for each in said] for name, said in CHANGES.items()}


def progression(
    classifier: ZeroShotClassifier,
    encoder: ImageEncoder,
    current: ImageLike | Iterable[ImageLike],
    previous: ImageLike | Iterable[ImageLike],
) -> dict[str, float] | list[dict[str, float]]:
    """What `Engine.progression` does, with the prompts embedded.

    Raises:
        InputError: images that cannot be used, more or fewer previous ones than current ones, or none for some; each
            is named.
    """
    from runtime.image.given_images import taken_images

    if previous is None:
        raise InputError("There is no previous image, and progression compares with one: give it as `previous`.")
    (now, single), (before, _) = taken_images(current), taken_images(previous)
    current_images, previous_images = list(now), list(before)
    if len(current_images) != len(previous_images):
        raise InputError(
            f"{len(current_images)} current and {len(previous_images)} previous images came; one previous image for "
            "each current one is expected."
        )
    faults = [
        Fault(
            index, f"image {index + 1}", f"has {missing(image)} for its previous image; progression compares with one"
        )
        for index, image in enumerate(previous_images)
        if image is None or (isinstance(image, float) and math.isnan(image))  # as tables have it
    ]
    if faults:
        raise InputError.from_faults("images", faults, len(current_images))
    rows = classifier.probabilities(encoder.encode(current_images, previous=previous_images)).tolist()
    found = [dict(zip(classifier.labels, row, strict=True)) for row in rows]
    return found[0] if single else found
