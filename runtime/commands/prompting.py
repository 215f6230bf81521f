"""What commands that classify by prompts ask for alike: labels, prompts, templates, rule and score."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.bundle import open_bundle
from runtime.bundle.parts import COSINES, Joint
from runtime.errors import BundleError
from runtime.process.wording import counted
from runtime.tasks.given_prompts import given_prompts, given_templates, resolve
from runtime.tasks.prompt_sets import PROMPT_SETS
from runtime.tasks.prompts import LabelPrompts, Prompts
from runtime.tasks.templates import TEMPLATE_SETS
from runtime.tasks.zero_shot import RULES, SCORES, rule_of

__all__ = ["AskedPrompts", "add_prompts", "as_mapping", "asked_prompts"]


@dataclass(frozen=True)
class AskedPrompts:
    """What is asked of images, and how the answer is scored.

    Attributes:
        prompts: of each label.
        rule: one of `RULES`.
        score: one of `SCORES`.
    """

    prompts: tuple[LabelPrompts, ...]
    rule: str
    score: str


def add_prompts(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add --prompts or --class, one of which is required unless said otherwise, --templates, --rule and --score."""
    asked = parser.add_mutually_exclusive_group(required=required)
    asked.add_argument(
        "--prompts",
        metavar="NAME|FILE.json",
        help='a file of {"label": {"positive": ["…"], "negative": ["…"]}, …}, or a built-in set: '
        + "; ".join(
            f"{name} ({counted(len(found.prompts), 'label')}: {found.source})" for name, found in PROMPT_SETS.items()
        )
        + '; for the scores softmax and sigmoid a file of ["label", …] or {"label": ["…"], …}',
    )
    asked.add_argument(
        "--class",
        dest="classes",
        action="append",
        metavar="LABEL",
        help="a label alone, of which templates make prompts; may be repeated",
    )
    parser.add_argument(
        "--templates",
        metavar="NAME|FILE.json",
        help='what labels alone become prompts by: a file of ["a photo of a {}.", …] or {"positive": ["{}"], '
        '"negative": ["no {}"]}, or a published set: '
        + "; ".join(f"{name} ({found.source})" for name, found in TEMPLATE_SETS.items())
        + " (the bundle's; where it has none the label itself)",
    )
    parser.add_argument(
        "--rule",
        choices=[*RULES],
        help="several prompts become one embedding by the mean of the unnormalized ones (biovil, as hi-ml-multimodal "
        "does) or of the normalized ones (clip, and chexzero the same); the same for one prompt a side (that of the "
        "bundle's system, biovil for BioViL)",
    )
    parser.add_argument(
        "--score",
        choices=[*SCORES],
        help="compare a label's prompts with those that deny it (pairs), labels with each other (softmax), or take "
        "each on its own (sigmoid); scale and bias are always the bundle's (the bundle's, pairs for BioViL)",
    )


def asked_prompts(options: argparse.Namespace, labels: Sequence[str] | None = None) -> AskedPrompts:
    """What the options of `add_prompts` ask for, by the bundle's manifest where they leave it open.

    Args:
        options: those, and the bundle.
        labels: alone, where neither --prompts nor --class is given.

    Raises:
        InputError: see `given_prompts`, `given_templates` and `resolve`.
        BundleError: labels alone for a bundle that cannot be opened.
    """
    joint = _joint(options.bundle, needed=not options.prompts)
    rule = options.rule or rule_of(joint.score)
    score = options.score or joint.score
    templates = given_templates(options.templates) if options.templates else None
    if options.prompts:
        found = given_prompts(options.prompts, rule, score, joint.templates, templates)
    else:
        found = resolve(options.classes or list(labels or ()), rule, score, joint.templates, templates)[0]
    return AskedPrompts(found, rule, score)


def as_mapping(prompts: Sequence[LabelPrompts]) -> Prompts:
    """Prompts as `Engine.zero_shot_classifier` takes them."""
    return {each.label: (each.positive, each.negative) if each.negative else each.positive for each in prompts}


def _joint(bundle: str, needed: bool) -> Joint:
    """What the bundle says of scores.

    What is wrong with it is said when it is loaded, after cheaper mistakes, unless it alone says what labels mean.
    """
    try:
        return open_bundle(bundle).manifest.joint or COSINES
    except BundleError:
        if needed:
            raise
        return COSINES
