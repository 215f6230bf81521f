"""What the authors say of their systems: licence, size, what they are for, and what they are not for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["CARDS", "Card"]

_NOT_DEPLOYED = "research only: the model card puts any deployed use out of scope"


@dataclass(frozen=True)
class Card:
    """A system's model card, in short.

    Attributes:
        licence: of the published weights, or of the code that they came with.
        parameters: of what is exported, in millions; None where that depends on the checkpoint.
        purpose: what the authors made it for.
        notice: what a user must know before using it; "" for nothing.
    """

    licence: str
    parameters: int | None
    purpose: str
    notice: str = ""


def _clip(parameters: int) -> Card:
    """OpenAI's; the hub's pages name no licence for the weights."""
    what = "photographs and captions: zero-shot, retrieval"
    return Card("MIT (code)", parameters, what, _NOT_DEPLOYED)


CARDS: Mapping[str, Card] = MappingProxyType(
    {
        "biovil": Card("MIT", 133, "chest X-rays and their reports: zero-shot, phrase grounding", _NOT_DEPLOYED),
        "cxr-bert-specialized": Card("MIT", 110, "chest X-ray reports, in the space shared with images", _NOT_DEPLOYED),
        "cxr-bert-general": Card("MIT", 110, "chest X-ray and other biomedical text", _NOT_DEPLOYED),
        "cxr-bert-general-mean": Card("MIT", 110, "chest X-ray and other biomedical text", _NOT_DEPLOYED),
        "biovil-image": Card("MIT", 24, "chest X-rays", _NOT_DEPLOYED),
        "biovil-t": Card(
            "MIT",
            135,
            "chest X-rays, alone or after a previous one, and their reports: zero-shot, phrase grounding, progression",
            _NOT_DEPLOYED,
        ),
        "cxr-bert-biovil-t": Card("MIT", 110, "chest X-ray reports, in the space shared with images", _NOT_DEPLOYED),
        "biovil-t-image": Card("MIT", 25, "chest X-rays, alone or after a previous one", _NOT_DEPLOYED),
        "bert": Card("the checkpoint's", None, "what the checkpoint was trained for"),
        "biomedbert-abstract": Card("MIT", 110, "biomedical text"),
        "biomedbert-fulltext": Card("MIT", 110, "biomedical text"),
        "bio-clinicalbert": Card("MIT", 108, "clinical notes"),
        "biomedclip": Card("MIT", 196, "biomedical pictures and captions: zero-shot, retrieval", _NOT_DEPLOYED),
        "clip-vit-base-patch32": _clip(151),
        "clip-vit-base-patch16": _clip(150),
        "clip-vit-large-patch14": _clip(428),
        "fashion-clip": Card("MIT", 151, "product pictures and their descriptions"),
        "clip": Card("the checkpoint's", None, "what the checkpoint was trained for"),
        "gloria": Card(
            "Apache-2.0 (code)",
            134,
            "chest X-rays of CheXpert and their reports: zero-shot, words attending to regions",
            "the weights come without a licence or a model card: research only",
        ),
        "convirt": Card("the checkpoint's", None, "medical images and their reports; no weights were published"),
    }
)
