"""Zero-shot classification: an image is compared with prompts that affirm a label and prompts that deny it.

Sources: hi-ml-multimodal, `test_zero_shot_classification.py` and `ImageTextInferenceEngine` (rule "biovil"); CheXzero,
`zero_shot.py`: `zeroshot_classifier` and `run_softmax_eval` (rule "chexzero").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import Fault, InputError
from runtime.process import array_of, shown
from runtime.tasks.joint import average_prompts
from runtime.tasks.prompt_sets import prompt_set
from runtime.tasks.prompts import SIDES, LabelPrompts, Prompts, check_prompts
from runtime.text import TextEncoder

if TYPE_CHECKING:  # Pillow is imported with the first image part
    from runtime.image.encoder import ImageEncoder
    from runtime.image.given_images import ImageLike

__all__ = ["RULES", "ZeroShotClassifier", "average_unit_prompts", "build_classifier", "classify", "resolve"]

# Embeddings may have been kept in float16, which moves their norm by up to 1e-3.
_NORM_TOLERANCE = 5e-3
_EPSILON = np.float32(1e-12)


def average_unit_prompts(projections: NDArray[np.float32]) -> NDArray[np.float32]:
    """Merge several prompts into one embedding: each is normalized, then their mean is.

    Args:
        projections: float32 (prompts, D), not normalized.

    Returns:
        float32 (D,), unit L2 norm.
    """
    norms = np.linalg.norm(projections, axis=1, keepdims=True)
    return average_prompts(projections / np.maximum(norms, _EPSILON))


# How the prompts of one side become one embedding.
RULES: Mapping[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = MappingProxyType(
    {"biovil": average_prompts, "chexzero": average_unit_prompts}
)


@dataclass(frozen=True, eq=False)
class ZeroShotClassifier:
    """The prompts of some labels, embedded once; made by `Engine.zero_shot_classifier`.

    Attributes:
        labels: their names, in the order given.
        rule: how the prompts of a side were merged, "biovil" or "chexzero".
        prompt_embeds: float32 (labels, 2, D), unit norm along the last axis: the positive and the negative embedding of
            each label. Read-only.
    """

    labels: tuple[str, ...]
    rule: str
    prompt_embeds: NDArray[np.float32]

    def __post_init__(self) -> None:
        # Classifiers are shared by whoever asks for the same prompts.
        self.prompt_embeds.flags.writeable = False

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.labels, self.rule, self.prompt_embeds)

    def scores(self, image_embeds: NDArray[Any]) -> NDArray[np.float32]:
        """Cosine of every image with the positive and the negative prompts of every label.

        Args:
            image_embeds: float (N, D), unit L2 norm, as `ImageEncoder.encode` gives them.

        Returns:
            float32 (N, labels, 2) in [-1, 1]: [..., 0] with the positive prompts, [..., 1] with the negative ones.

        Raises:
            InputError: another shape or dtype, rows that have no unit norm.
        """
        count, _, size = self.prompt_embeds.shape
        rows = _checked_rows(image_embeds, size)
        cosines = np.clip(rows @ self.prompt_embeds.reshape(2 * count, size).T, -1, 1)
        return np.asarray(cosines.reshape(len(rows), count, 2), dtype=np.float32)

    def probabilities(self, image_embeds: NDArray[Any]) -> NDArray[np.float32]:
        """Probability of every label for every image: softmax of its two scores s⁺ and s⁻, without a temperature.

        That is exp(s⁺) / (exp(s⁺) + exp(s⁻)), CheXzero's formula. The reference of "biovil" only decides, for the label
        where s⁺ > s⁻: that is where this exceeds 0.5. Since cosines differ by 2 at most, it stays within 0.12 … 0.88: a
        number to rank and to compare with 0.5, not a calibrated one. Labels are independent of each other.

        Args:
            image_embeds: as for `scores`.

        Returns:
            float32 (N, labels).

        Raises:
            InputError: as for `scores`.
        """
        scores = self.scores(image_embeds)
        return np.asarray(1 / (1 + np.exp(scores[..., 1] - scores[..., 0])), dtype=np.float32)


def resolve(prompts: Prompts | str, rule: str) -> tuple[tuple[LabelPrompts, ...], str]:
    """The prompts of a built-in set by its name, or one's own, checked; and the rule, checked.

    Raises:
        InputError: see `prompt_set` and `check_prompts`; an unknown rule.
    """
    if not isinstance(rule, str) or rule not in RULES:
        raise InputError(f"There is no rule {shown(rule)}; there are: {', '.join(RULES)}.")
    return prompt_set(prompts).prompts if isinstance(prompts, str) else check_prompts(prompts), rule


def classify(
    classifier: ZeroShotClassifier, encoder: ImageEncoder, images: ImageLike | Iterable[ImageLike]
) -> dict[str, float] | list[dict[str, float]]:
    """What `Engine.classify` does, with the prompts embedded."""
    from runtime.image.given_images import taken_images

    listed, single = taken_images(images)
    rows = classifier.probabilities(encoder.encode(list(listed))).tolist()
    found = [dict(zip(classifier.labels, row, strict=True)) for row in rows]
    return found[0] if single else found


def build_classifier(text: TextEncoder, prompts: tuple[LabelPrompts, ...], rule: str) -> ZeroShotClassifier:
    """Embed the prompts, all in one go, and merge each side's.

    Args:
        text: the text encoder.
        prompts: as `check_prompts` gives them.
        rule: one of `RULES`.

    Raises:
        InputError: prompts that the text encoder refuses, each named with its label.
    """
    sides = [getattr(each, side) for each in prompts for side in SIDES]
    try:
        projections = text.encode([prompt for side in sides for prompt in side], normalize=False)
    except InputError as error:
        raise _by_label(prompts, error) from None
    ends = np.cumsum([len(side) for side in sides])
    merged = np.stack([RULES[rule](rows) for rows in np.split(projections, ends[:-1])])
    embeds = merged.reshape(len(prompts), len(SIDES), -1)
    return ZeroShotClassifier(tuple(each.label for each in prompts), rule, embeds)


def _by_label(prompts: tuple[LabelPrompts, ...], error: InputError) -> InputError:
    """The text encoder's error about a flat list of prompts, with their labels."""
    where = [
        (index, f"label {each.label!r}, {side} prompt {number}")
        for index, each in enumerate(prompts)
        for side in SIDES
        for number, _ in enumerate(getattr(each, side), 1)
    ]
    faults = [
        Fault(where[fault.index][0], f"{where[fault.index][1]} ({fault.name})", fault.reason) for fault in error.faults
    ]
    return InputError.from_faults("prompts", faults, len(where))


def _checked_rows(image_embeds: NDArray[Any], size: int) -> NDArray[np.float32]:
    array = array_of("image_embeds", image_embeds, f"float32 (N, {size})")
    if array.dtype.kind != "f" or array.ndim != 2 or array.shape[1] != size:
        raise InputError(
            f"image_embeds is {array.dtype} {array.shape}; float32 (N, {size}) is expected, as engine.image.encode "
            "gives it."
        )
    rows = array.astype(np.float32, copy=False)
    norms = np.linalg.norm(rows, axis=1)
    wrong = np.flatnonzero(~(np.abs(norms - 1) <= _NORM_TOLERANCE))  # NaN is wrong as well
    if len(wrong):
        raise InputError(
            f"{len(wrong)} of {len(rows)} rows of image_embeds have no unit norm (row {wrong[0]}: "
            f"{norms[wrong[0]]:.4g}), so that no cosines come of them. Divide each row by its L2 norm."
        )
    return rows
