"""Published prompts for zero-shot classification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from runtime.errors import InputError
from runtime.tasks.prompts import LabelPrompts
from runtime.tasks.templates import TEMPLATE_SETS

__all__ = ["PROMPT_SETS", "PromptSet", "prompt_set"]


@dataclass(frozen=True)
class PromptSet:
    """Prompts as their authors published them.

    Attributes:
        prompts: of each label; without negative ones where the labels are compared with each other.
        rule: by which the authors score them, see `runtime.tasks.zero_shot.RULES`.
        source: repository, commit and file, or the paper.
        licence: of that repository; "" of a paper.
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
# What BiomedCLIP was evaluated on: the names of the classes, and which of its templates.
_BIOMEDCLIP = {
    "biomedclip-rsna": ("biomedclip-photo", ("normal lung", "pneumonia")),
    "biomedclip-pcam": ("biomedclip-image", ("normal lymph node", "lymph node metastasis")),
    "biomedclip-lc25000-lung": (
        "biomedclip-image",
        ("lung adenocarcinomas", "normal lung tissue", "lung squamous cell carcinomas"),
    ),
    "biomedclip-lc25000-colon": ("biomedclip-photo", ("colon adenocarcinomas", "normal colonic tissue")),
    "biomedclip-tcga-til": ("biomedclip-photo", ("none", "tumor infiltrating lymphocytes")),
}


def _filled(labels: tuple[str, ...], templates: str) -> tuple[LabelPrompts, ...]:
    filled = {label: TEMPLATE_SETS[templates].templates.filled(label) for label in labels}
    return tuple(
        LabelPrompts(label, tuple(positive), tuple(negative)) for label, (positive, negative) in filled.items()
    )


PROMPT_SETS: Mapping[str, PromptSet] = MappingProxyType(
    {
        "pneumonia": PromptSet(
            prompts=(_PNEUMONIA,),
            rule="biovil",
            source="microsoft/hi-ml, b67c1d2, test_multimodal/vlp/test_zero_shot_classification.py",
            licence="MIT",
        ),
        "chexpert": PromptSet(
            prompts=_filled(_CHEXPERT, "chexzero"),
            rule="chexzero",
            source="rajpurkarlab/CheXzero, 5c341db, notebooks/zero_shot.ipynb",
            licence="MIT",
        ),
        **{
            name: PromptSet(
                prompts=_filled(labels, templates),
                rule="clip",
                source="Zhang et al. (NEJM AI 2025), supplementary table 5",
                licence="",
            )
            for name, (templates, labels) in _BIOMEDCLIP.items()
        },
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
