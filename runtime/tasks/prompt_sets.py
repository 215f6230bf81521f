"""Published prompts for zero-shot classification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from runtime.errors import InputError
from runtime.tasks.prompts import LabelPrompts

__all__ = ["PROMPT_SETS", "PromptSet", "prompt_set"]


@dataclass(frozen=True)
class PromptSet:
    """Prompts as their authors published them.

    Attributes:
        prompts: of each label.
        rule: by which the authors score them, see `runtime.tasks.zero_shot.RULES`.
        source: repository, commit and file.
        licence: of that repository.
    """

    prompts: tuple[LabelPrompts, ...]
    rule: str
    source: str
    licence: str


_PNEUMONIA = LabelPrompts(
    "Pneumonia",
    positive=(
        "Findings consistent with pneumonia",
        "Findings suggesting pneumonia",
        "This opacity can represent pneumonia",
        "Findings are most compatible with pneumonia",
    ),
    negative=(
        "There is no pneumonia",
        "No evidence of pneumonia",
        "No evidence of acute pneumonia",
        "No signs of pneumonia",
    ),
)

# The observations of CheXpert (Irvin et al., AAAI 2019), with which CheXzero fills its templates as they are: the
# negative prompt of "No Finding" is "no No Finding" there, too.
_CHEXPERT = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
)
_CHEXZERO_TEMPLATES = ("{}", "no {}")


def _filled(labels: tuple[str, ...], templates: tuple[str, str]) -> tuple[LabelPrompts, ...]:
    positive, negative = templates
    return tuple(LabelPrompts(label, (positive.format(label),), (negative.format(label),)) for label in labels)


PROMPT_SETS: Mapping[str, PromptSet] = MappingProxyType(
    {
        "pneumonia": PromptSet(
            prompts=(_PNEUMONIA,),
            rule="biovil",
            source="microsoft/hi-ml, b67c1d2, test_multimodal/vlp/test_zero_shot_classification.py",
            licence="MIT",
        ),
        "chexpert": PromptSet(
            prompts=_filled(_CHEXPERT, _CHEXZERO_TEMPLATES),
            rule="chexzero",
            source="rajpurkarlab/CheXzero, 5c341db, notebooks/zero_shot.ipynb",
            licence="MIT",
        ),
    }
)


def prompt_set(name: str) -> PromptSet:
    """The built-in set of that name.

    Raises:
        InputError: there is none; those there are listed.
    """
    try:
        return PROMPT_SETS[name]
    except KeyError:
        raise InputError(f"There is no prompt set '{name}'; there are: {', '.join(PROMPT_SETS)}.") from None
