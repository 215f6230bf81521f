"""Templates, by which labels alone become prompts for zero-shot classification: published sets, and one's own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from runtime.errors import InputError
from runtime.files import read_json
from runtime.process import shown
from runtime.process.checks import path_of

__all__ = [
    "TEMPLATE_SETS",
    "GivenTemplates",
    "TemplateSet",
    "Templates",
    "check_templates",
    "read_templates",
    "template_set",
]

GivenTemplates: TypeAlias = "str | Sequence[str] | Mapping[str, Sequence[str]]"

_HOLE = "{}"
_SIDES = ("positive", "negative")
_EXPECTED = '["a photo of a {}.", …] or {"positive": ["{}"], "negative": ["no {}"]}'


@dataclass(frozen=True)
class Templates:
    """What labels become prompts by; "{}" stands for the label.

    Attributes:
        positive: for prompts that affirm a label.
        negative: for prompts that deny it, which the score "pairs" compares; empty where labels are compared with each
            other or stand alone.
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...] = ()

    def filled(self, label: str) -> tuple[list[str], list[str]]:
        """The prompts of a label: positive and negative ones."""
        positive, negative = ([each.replace(_HOLE, label) for each in side] for side in (self.positive, self.negative))
        return positive, negative


@dataclass(frozen=True)
class TemplateSet:
    """Templates as their authors published them.

    Attributes:
        templates: the templates.
        source: repository, commit and file, or the paper.
        licence: of that repository; "" of a paper.
    """

    templates: Templates
    source: str
    licence: str


_IMAGENET_80 = (
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "a photo of a {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
)
_IMAGENET_7 = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)

TEMPLATE_SETS: Mapping[str, TemplateSet] = MappingProxyType(
    {
        "imagenet": TemplateSet(
            Templates(_IMAGENET_80),
            source="CLIP's 80: mlfoundations/open_clip, 89fb801, zero_shot_metadata.py, OPENAI_IMAGENET_TEMPLATES",
            licence="MIT",
        ),
        "imagenet-simple": TemplateSet(
            Templates(_IMAGENET_7),
            source="the best 7 of those: the same file, SIMPLE_IMAGENET_TEMPLATES",
            licence="MIT",
        ),
        "photo": TemplateSet(
            Templates(("a photo of a {}.",)),
            source="Radford et al. (ICML 2021), section 3.1.4",
            licence="",
        ),
        "fashion-clip": TemplateSet(
            Templates(("a photo of a {}",)),
            source="patrickjohncyh/fashion-clip, 0b4b4f9, README.md",
            licence="MIT",
        ),
        "biomedclip": TemplateSet(
            Templates(("this is a photo of {}",)),
            source="the example of microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224's model card",
            licence="MIT",
        ),
        "biomedclip-photo": TemplateSet(
            Templates(("a photo of {}", "{} presented in image")),
            source="Zhang et al. (NEJM AI 2025), supplementary table 5: RSNA, LC25000 colon, TCGA-TIL",
            licence="",
        ),
        "biomedclip-image": TemplateSet(
            Templates(("this is an image of {}", "{} presented in image")),
            source="Zhang et al. (NEJM AI 2025), supplementary table 5: PCam, LC25000 lung",
            licence="",
        ),
        "chexzero": TemplateSet(
            Templates(("{}",), ("no {}",)),
            source="rajpurkarlab/CheXzero, 5c341db, notebooks/zero_shot.ipynb",
            licence="MIT",
        ),
        "hi-ml": TemplateSet(
            Templates(
                ("Findings consistent with {}", "Findings suggesting {}", "Findings are most compatible with {}"),
                ("There is no {}", "No evidence of {}", "No signs of {}"),
            ),
            source="those of hi-ml's prompts for pneumonia that can be said of any finding: microsoft/hi-ml, b67c1d2, "
            "test_multimodal/vlp/test_zero_shot_classification.py",
            licence="MIT",
        ),
    }
)


def template_set(name: str) -> TemplateSet:
    """The published set of that name.

    Raises:
        InputError: there is none; those there are listed.
    """
    try:
        return TEMPLATE_SETS[name]
    except KeyError:
        raise InputError(f"There are no templates {shown(name)}; there are: {', '.join(TEMPLATE_SETS)}.") from None


def check_templates(templates: GivenTemplates | Templates) -> Templates:
    """The templates of a published set by its name, or one's own, checked.

    Args:
        templates: a name; templates that affirm a label, such as ["a photo of a {}."]; or both sides, {"positive":
            ["{}"], "negative": ["no {}"]}.

    Raises:
        InputError: an unknown name, something else, none at all, or templates without "{}" for the label.
    """
    if isinstance(templates, Templates):
        return templates
    if isinstance(templates, str):
        return template_set(templates).templates
    if isinstance(templates, Mapping):
        unknown = [name for name in templates if name not in _SIDES]
        if unknown:
            raise InputError(f"The templates have {shown(unknown[0])}; 'positive' and 'negative' are expected.")
        positive, negative = (_checked_side(side, templates.get(side, ())) for side in _SIDES)
    else:
        positive, negative = _checked_side(_SIDES[0], templates), ()
    if not positive:
        raise InputError(f"There are no positive templates; at least one is expected: {_EXPECTED}.")
    return Templates(positive, negative)


def read_templates(path: str | os.PathLike[str]) -> Templates:
    """Read templates from a JSON file.

    Args:
        path: of ["a photo of a {}.", …] or of {"positive": ["{}"], "negative": ["no {}"]}.

    Raises:
        InputError: the file is missing or is no JSON, and as for `check_templates`.
    """
    try:
        content = read_json(path_of("templates", path))
    except OSError as error:
        raise InputError(f"The templates {path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise InputError(f"The templates {path} cannot be used: {error}. JSON of {_EXPECTED} is expected.") from None
    if not isinstance(content, (list, dict)):
        raise InputError(f"The templates {path} hold no list; JSON of {_EXPECTED} is expected.")
    try:
        return check_templates(content)
    except InputError as error:
        raise InputError(f"The templates {path} cannot be used. {error}") from None


def _checked_side(side: str, templates: Any) -> tuple[str, ...]:
    if isinstance(templates, str) or not isinstance(templates, Sequence):
        raise InputError(
            f"The {side} templates are {shown(templates)}; a list is expected, or the name of a set: {_EXPECTED}."
        )
    for number, each in enumerate(templates, 1):
        if not isinstance(each, str) or _HOLE not in each:
            raise InputError(
                f"The {side} template {number} is {shown(each)}; a phrase with {{}} where the label belongs is "
                "expected, such as 'a photo of a {}.'."
            )
    return tuple(templates)
