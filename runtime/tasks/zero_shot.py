"""Zero-shot classification: an image is compared with prompts that affirm a label and prompts that deny it.

Or, by the score that a system was trained with, labels are compared with each other, or each stands alone.

Sources: hi-ml-multimodal, `test_zero_shot_classification.py` and `ImageTextInferenceEngine` (rule "biovil"); CheXzero,
`zero_shot.py`: `zeroshot_classifier` and `run_softmax_eval` (rule "chexzero"); open_clip, `zero_shot_classifier.py`
(rule "clip") and README (score "softmax"); transformers, `SiglipModel` (score "sigmoid").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import Fault, InputError
from runtime.process import array_of
from runtime.tasks.joint import average_prompts
from runtime.tasks.prompts import SIDES, LabelPrompts, by_label, prompt_texts
from runtime.text import TextEncoder, Tokenizer

if TYPE_CHECKING:  # Pillow is imported with the first image part
    from runtime.image.encoder import ImageEncoder
    from runtime.image.given_images import ImageLike

__all__ = [
    "RULES",
    "SCORES",
    "Score",
    "ZeroShotClassifier",
    "average_unit_prompts",
    "build_classifier",
    "classify",
    "merge_prompts",
    "refuse_wordless",
    "rule_of",
]

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


# How the prompts of one side become one embedding; CheXzero's way is CLIP's.
RULES: Mapping[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = MappingProxyType(
    {"biovil": average_prompts, "chexzero": average_unit_prompts, "clip": average_unit_prompts}
)


def rule_of(score: str) -> str:
    """The rule of `RULES` by which the systems of that score are evaluated upstream.

    Args:
        score: a bundle's own, of `SCORES`: hi-ml averages unnormalized embeddings, CLIP and SigLIP normalized ones.
    """
    return "biovil" if score == "pairs" else "clip"


@dataclass(frozen=True)
class Score:
    """How cosines become probabilities.

    Attributes:
        sides: of each label's prompts that it compares.
        fewest: labels that it needs.
        probabilities: float32 (N, labels, sides) of cosines, scale and bias → float32 (N, labels).
    """

    sides: tuple[str, ...]
    fewest: int
    probabilities: Callable[[NDArray[np.float32], np.float32, np.float32], NDArray[np.float32]]


def _pairs(cosines: NDArray[np.float32], scale: np.float32, bias: np.float32) -> NDArray[np.float32]:
    return _logistic(scale * (cosines[..., 0] - cosines[..., 1]))


def _softmax(cosines: NDArray[np.float32], scale: np.float32, bias: np.float32) -> NDArray[np.float32]:
    logits = scale * cosines[..., 0]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def _sigmoid(cosines: NDArray[np.float32], scale: np.float32, bias: np.float32) -> NDArray[np.float32]:
    return _logistic(scale * cosines[..., 0] + bias)


def _logistic(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # exp(-x) is infinite where the answer is 0
        return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)


# How cosines become probabilities; scale and bias are the bundle's.
SCORES: Mapping[str, Score] = MappingProxyType(
    {
        "pairs": Score(SIDES, 1, _pairs),
        "softmax": Score(SIDES[:1], 2, _softmax),
        "sigmoid": Score(SIDES[:1], 1, _sigmoid),
    }
)


@dataclass(frozen=True, eq=False)
class ZeroShotClassifier:
    """The prompts of some labels, embedded once; made by `Engine.zero_shot_classifier`.

    Attributes:
        labels: their names, in the order given.
        rule: how the prompts of a side were merged, one of `RULES`.
        prompt_embeds: float32 (labels, sides, D), unit norm along the last axis: the positive and, for the score
            "pairs", the negative embedding of each label. Read-only.
        score: how cosines become probabilities, see `SCORES`.
        logit_scale: of the bundle: what cosines are multiplied by; 1 for BioViL.
        logit_bias: of the bundle: what is added then for the score "sigmoid".
    """

    labels: tuple[str, ...]
    rule: str
    prompt_embeds: NDArray[np.float32]
    score: str = "pairs"
    logit_scale: float = 1.0
    logit_bias: float = 0.0

    def __post_init__(self) -> None:
        # Classifiers are shared by whoever asks for the same prompts.
        self.prompt_embeds.flags.writeable = False

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (
            *(self.labels, self.rule, self.prompt_embeds),
            *(self.score, self.logit_scale, self.logit_bias),
        )

    def scores(self, image_embeds: NDArray[Any]) -> NDArray[np.float32]:
        """Cosine of every image with the prompts of every label.

        Args:
            image_embeds: float (N, D), unit L2 norm, as `ImageEncoder.encode` gives them.

        Returns:
            float32 (N, labels, sides) in [-1, 1]: [..., 0] with the positive prompts, [..., 1] with the negative ones,
            which the score "pairs" alone has.

        Raises:
            InputError: another shape or dtype, rows that have no unit norm.
        """
        count, sides, size = self.prompt_embeds.shape
        rows = _checked_rows(image_embeds, size)
        cosines = np.clip(rows @ self.prompt_embeds.reshape(count * sides, size).T, -1, 1)
        return np.asarray(cosines.reshape(len(rows), count, sides), dtype=np.float32)

    def probabilities(self, image_embeds: NDArray[Any]) -> NDArray[np.float32]:
        """Probability of every label for every image, by the score; s is a cosine, times `logit_scale`.

        "pairs": softmax of the two of a label, exp(s⁺) / (exp(s⁺) + exp(s⁻)), CheXzero's formula. The reference of
        "biovil" only decides, for the label where s⁺ > s⁻: that is where this exceeds 0.5. Since cosines differ by 2 at
        most, it stays within 0.12 … 0.88 for a scale of 1: a number to rank and to compare with 0.5, not a calibrated
        one. Labels are independent of each other. "softmax": of the labels, whose probabilities sum to 1. "sigmoid": of
        s plus `logit_bias`, each label on its own.

        Args:
            image_embeds: as for `scores`.

        Returns:
            float32 (N, labels).

        Raises:
            InputError: as for `scores`.
        """
        scale, bias = np.float32(self.logit_scale), np.float32(self.logit_bias)
        return SCORES[self.score].probabilities(self.scores(image_embeds), scale, bias)


def classify(
    classifier: ZeroShotClassifier,
    encoder: ImageEncoder,
    images: ImageLike | Iterable[ImageLike],
    previous: ImageLike | Iterable[ImageLike | None] | None = None,
) -> dict[str, float] | list[dict[str, float]]:
    """What `Engine.classify` does, with the prompts embedded."""
    from runtime.image.given_images import taken_images

    listed, single = taken_images(images)
    rows = classifier.probabilities(encoder.encode(list(listed), previous)).tolist()
    found = [dict(zip(classifier.labels, row, strict=True)) for row in rows]
    return found[0] if single else found


def build_classifier(
    text: TextEncoder,
    prompts: tuple[LabelPrompts, ...],
    rule: str,
    score: str = "pairs",
    logit_scale: float = 1.0,
    logit_bias: float = 0.0,
) -> ZeroShotClassifier:
    """Embed the prompts, all in one go, and merge each side's.

    Args:
        text: the text encoder.
        prompts: as `check_prompts` gives them.
        rule: one of `RULES`.
        score: one of `SCORES`.
        logit_scale: of the bundle.
        logit_bias: of the bundle.

    Raises:
        InputError: prompts that the text encoder refuses, each named with its label.
    """
    try:
        projections = text.encode(prompt_texts(prompts, SCORES[score].sides), normalize=False)
    except InputError as error:
        raise by_label(prompts, error) from None
    return merge_prompts(projections, prompts, rule, score, logit_scale, logit_bias)


def refuse_wordless(prompts: Sequence[LabelPrompts], score: str, tokenizer: Tokenizer) -> None:
    """Refuse prompts of which a system reads no word: all of them would be embedded alike.

    Args:
        prompts: as for `build_classifier`.
        score: one of `SCORES`.
        tokenizer: that of the system.

    Raises:
        InputError: there are such prompts; each is named with its label.
    """
    texts = prompt_texts(prompts, SCORES[score].sides)
    reason = (
        "nothing of it is read: this system drops sentences of one word. Write more, or for labels alone choose "
        "templates that make sentences of them, such as hi-ml"
    )
    faults = [Fault(index, repr(texts[index]), reason) for index in tokenizer.emptied(texts)]
    if faults:
        raise by_label(prompts, InputError.from_faults("texts", faults, len(texts)))


def merge_prompts(
    projections: NDArray[np.float32],
    prompts: tuple[LabelPrompts, ...],
    rule: str,
    score: str,
    logit_scale: float,
    logit_bias: float,
) -> ZeroShotClassifier:
    """Merge each side's embedded prompts.

    Args:
        projections: float32 (texts, D) of `prompt_texts`, not normalized.
        prompts: as for `build_classifier`, and so is the rest.
    """
    names = SCORES[score].sides
    ends = np.cumsum([len(getattr(each, side)) for each in prompts for side in names])
    merged = np.stack([RULES[rule](rows) for rows in np.split(projections, ends[:-1])])
    embeds = merged.reshape(len(prompts), len(names), -1)
    labels = tuple(each.label for each in prompts)
    return ZeroShotClassifier(labels, rule, embeds, score, logit_scale, logit_bias)


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
