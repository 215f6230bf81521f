"""What reports say of the synthetic radiographs: captions, prompts, and sentences of related meaning."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping

import numpy as np

__all__ = [
    "ABSENT",
    "CLASSES",
    "FINDINGS",
    "GROUPS",
    "LOCATIONS",
    "NO_FINDING",
    "OPPOSITES",
    "absence_prompts",
    "finding_prompts",
    "location_prompts",
    "make_caption",
    "make_impression",
    "words",
]

FINDINGS = ("opacity", "nodule", "bulla", "drain")
# Of the patient, who faces the viewer: the patient's left is the image's right.
LOCATIONS = ("right upper", "left upper", "right lower", "left lower")
NO_FINDING = "none"
# Statements that one finding is not there; others may be. "no opacity" → "opacity"
ABSENT: Mapping[str, str] = {f"no {finding}": finding for finding in FINDINGS}

_FULL = [*itertools.product(FINDINGS, LOCATIONS), (NO_FINDING, None)]
_FINDING_ONLY = [*((finding, None) for finding in FINDINGS), (NO_FINDING, None)]
_PLACE_ONLY = [(None, place) for place in LOCATIONS]
_ABSENT_ONLY = [(absent, None) for absent in ABSENT]


def _twice() -> Iterator[tuple[slice, list[tuple[str | None, str | None]]]]:
    start = 0
    for group in (_FULL, _FINDING_ONLY, _PLACE_ONLY, _ABSENT_ONLY):
        yield slice(start, start + 2 * len(group)), 2 * group
        start += 2 * len(group)


# Finding and place of each caption of a step, two of each class. None leaves it open; no finding has no place.
# Captions of one group exclude each other, but for the last; those of different groups do not, but for OPPOSITES.
CLASSES: list[tuple[str | None, str | None]] = [each for _, group in _twice() for each in group]
GROUPS = {name: part for name, (part, _) in zip(("full", "finding", "place", "absent"), _twice(), strict=True)}
# Of each finding, the captions that only affirm it and those that deny it.
OPPOSITES = [
    [index for index, (stated, place) in enumerate(CLASSES) if stated in (finding, absent) and place is None]
    for absent, finding in ABSENT.items()
]

SYNONYMS = {
    "opacity": ("opacity", "consolidation", "airspace opacity", "hazy opacity", "airspace consolidation"),
    "nodule": ("nodule", "pulmonary nodule", "small nodule", "round nodule", "granuloma"),
    "bulla": ("bulla", "cyst", "emphysematous bulla", "air cyst", "bullous lesion"),
    "drain": ("drain", "chest tube", "pleural drain", "drainage catheter", "chest drain"),
}
ANY_FINDING = ("abnormality", "finding", "abnormal finding", "focal abnormality")
PLACES = (
    "{side} {level} lobe",
    "{side} {level} zone",
    "{level} zone of the {side} lung",
    "{side} lung, {level} part",
    "{level} part of the {side} lung",
    "{level} {side} lung",
)
ANYWHERE = ("lung", "chest", "one lung", "lungs", "thorax")
TEMPLATES = (
    "There is {a} {finding} in the {place}.",
    "{Finding} in the {place}.",
    "{A} {finding} is seen in the {place}.",
    "{Finding} projecting over the {place}",
    "New {finding} in the {place}, unchanged heart size.",
    "The {place} shows {a} {finding}.",
    "In the {place}, {a} {finding} is noted.",
    "Findings: {finding}, {place}.",
)
NEGATIVES = (
    "No acute findings.",
    "The lungs are clear.",
    "No opacity, nodule, bulla or drain.",
    "Normal chest radiograph",
    "There is no focal abnormality in the lungs.",
    "No abnormality is seen.",
    "No finding is seen.",
    "Lungs are clear bilaterally, no cyst or consolidation.",
    "Unremarkable chest.",
)
_ABSENCES = (
    "No {finding}.",
    "There is no {finding} in the {place}.",
    "No evidence of {finding}",
    "No {finding} is seen in the {place}.",
    "In the {place}, no {finding} is noted.",
)
# What a report says again at its end. The names there are always the same, so that the findings above tell the words.
_IMPRESSIONS = (
    "Impression: {finding} in the {side} {level} lobe.",
    "Impression: {side} {level} lobe {finding}.",
    "Impression: {finding} is noted, {side} lung, {level} zone.",
)
# Wordings that training never sees, of words that it does.
_HELD_OUT_TEMPLATES = (
    "{A} {finding} is noted in the {place}.",
    "There is new {finding} projecting over the {place}",
    "{Finding} is seen, {place}.",
)
_HELD_OUT_NEGATIVES = ("The chest is clear.", "No acute abnormality is noted.", "There is no finding in the lungs")
_HELD_OUT_ABSENCES = ("No {finding} is noted in the {place}.", "There is no evidence of {finding}.", "No new {finding}")
_HELD_OUT_IMPRESSIONS = ("Impression: {finding} in the {side} lung, {level} lobe.",)


def make_caption(rng: np.random.Generator, finding: str | None, location: str | None, *, held_out: bool = False) -> str:
    """A caption; None for a finding or a location that it leaves open; "no …" for a finding that it excludes."""
    if finding == NO_FINDING:
        return str(rng.choice(_HELD_OUT_NEGATIVES if held_out else NEGATIVES))
    if finding in ABSENT:
        templates, finding = _HELD_OUT_ABSENCES if held_out else _ABSENCES, ABSENT[finding]
    else:
        templates = _HELD_OUT_TEMPLATES if held_out else TEMPLATES
    return _fill(
        str(rng.choice(templates)),
        str(rng.choice(SYNONYMS[finding] if finding else ANY_FINDING)),
        _place(str(rng.choice(PLACES)), location) if location else str(rng.choice(ANYWHERE)),
    )


def make_impression(rng: np.random.Generator, finding: str, location: str, *, held_out: bool = False) -> str:
    """A finding and its location as the end of a report says it again, always by the same names."""
    return _fill(_place(str(rng.choice(_HELD_OUT_IMPRESSIONS if held_out else _IMPRESSIONS)), location), finding)


def _place(pattern: str, location: str) -> str:
    side, level = location.split()
    return pattern.replace("{side}", side).replace("{level}", level)


def _fill(template: str, finding: str, place: str = "") -> str:
    article = "an" if finding[0] in "aeiou" else "a"
    return template.format(
        a=article, A=article.capitalize(), finding=finding, Finding=finding.capitalize(), place=place
    )


def finding_prompts() -> dict[str, list[str]]:
    """Finding → prompts that leave the place open, in wordings that training did not see."""
    return _prompts(_HELD_OUT_TEMPLATES) | {NO_FINDING: list(_HELD_OUT_NEGATIVES)}


def absence_prompts() -> dict[str, list[str]]:
    """Finding → prompts that say that it is not there, in wordings that training did not see."""
    return _prompts(_HELD_OUT_ABSENCES)


def _prompts(templates: tuple[str, ...]) -> dict[str, list[str]]:
    return {
        finding: [
            _fill(template, synonym, place)
            for template, synonym, place in zip(templates, SYNONYMS[finding], ANYWHERE, strict=False)
        ]
        for finding in FINDINGS
    }


def location_prompts() -> dict[str, list[str]]:
    """Location → prompts that leave the finding open, in wordings that training did not see."""
    return {
        location: [
            _fill(template, synonym, _place(pattern, location))
            for template, synonym, pattern in zip(_HELD_OUT_TEMPLATES, ANY_FINDING, PLACES, strict=False)
        ]
        for location in LOCATIONS
    }


def words() -> set[str]:
    """All words of the texts above, in lower case."""
    texts = [*TEMPLATES, *NEGATIVES, *_ABSENCES, *_IMPRESSIONS, *PLACES, *ANYWHERE, *ANY_FINDING, *LOCATIONS, "a an"]
    texts += [*_HELD_OUT_TEMPLATES, *_HELD_OUT_NEGATIVES, *_HELD_OUT_ABSENCES, *_HELD_OUT_IMPRESSIONS]
    texts += itertools.chain(*SYNONYMS.values())
    return {word for text in texts for word in re.findall(r"\w+", re.sub("{.*?}", "", text).lower())}
