"""Prompts as functions and commands are given them: published sets, labels that templates fill, one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.errors import InputError
from runtime.process import shown
from runtime.tasks.prompt_sets import PROMPT_SETS, prompt_set
from runtime.tasks.prompts import SIDES, LabelPrompts, Prompts, check_prompts, in_file, label_names, load_prompts
from runtime.tasks.templates import (
    TEMPLATE_SETS,
    GivenTemplates,
    Templates,
    check_templates,
    read_templates,
)
from runtime.tasks.zero_shot import RULES, SCORES

__all__ = ["given_prompts", "given_templates", "resolve"]


def resolve(
    prompts: Prompts | str,
    rule: str,
    score: str = "pairs",
    templates: Sequence[str] = (),
    chosen: GivenTemplates | Templates | None = None,
) -> tuple[tuple[LabelPrompts, ...], str, str]:
    """The prompts of a published set by its name, of labels alone, or one's own, checked; and rule and score, checked.

    Args:
        prompts: see `check_prompts`; labels alone for "pairs" as well where templates were chosen that deny them.
        rule: one of `RULES`.
        score: one of `SCORES`.
        templates: the bundle's: what labels alone become prompts by where none are chosen.
        chosen: see `check_templates`; None takes the bundle's.

    Raises:
        InputError: see `prompt_set`, `check_templates` and `check_prompts`; an unknown rule or score; fewer labels than
            the score compares; a published set with negative prompts for a score without, or the other way round;
            templates for prompts that are written whole.
    """
    for name, value, known in (("rule", rule, RULES), ("score", score, SCORES)):
        if not isinstance(value, str) or value not in known:
            raise InputError(f"There is no {name} {shown(value)}; there are: {', '.join(known)}.")
    filled = None if chosen is None else check_templates(chosen)
    if filled is not None and not isinstance(prompts, (list, tuple)):
        raise InputError("Templates make prompts of labels alone; these have prompts. Leave the templates out.")
    if isinstance(prompts, str):
        found = _published(prompts, score)
    elif SCORES[score].sides != SIDES:
        found = check_prompts(prompts, filled.positive if filled else templates)
    else:
        found = check_prompts(_in_pairs(prompts, filled))
    if len(found) < SCORES[score].fewest:
        raise InputError(
            f"The score '{score}' compares labels with each other: at least {SCORES[score].fewest} are expected, there "
            f"is {len(found)}."
        )
    return found, rule, score


def given_prompts(
    name: str, rule: str, score: str, templates: Sequence[str], chosen: Templates | None = None
) -> tuple[LabelPrompts, ...]:
    """The prompts of a published set, or those in a file.

    Args:
        name: of a set of `PROMPT_SETS`, or path of a JSON file, see `read_prompts`.
        rule: one of `RULES`.
        score: one of `SCORES`, which decides whether labels have negative prompts.
        templates: the bundle's; see `resolve`, and for `chosen` as well.

    Raises:
        InputError: neither a set nor a file, and as for `load_prompts` and `resolve`.
    """
    if name in PROMPT_SETS:
        return resolve(name, rule, score, templates, chosen)[0]
    if Path(name).suffix != ".json" and not Path(name).is_file():
        raise InputError(
            f"There is no prompt set '{name}'; there are: {', '.join(PROMPT_SETS)}. Or give a .json file of prompts."
        )
    content = load_prompts(name, SCORES[score].sides != SIDES or chosen is not None)
    try:
        return resolve(content, rule, score, templates, chosen)[0]
    except InputError as error:
        raise in_file(name, error) from None


def given_templates(name: str) -> Templates:
    """The templates of a published set, or those in a file.

    Args:
        name: of a set of `TEMPLATE_SETS`, or path of a JSON file, see `read_templates`.

    Raises:
        InputError: neither a set nor a file, and as for `read_templates`.
    """
    if name in TEMPLATE_SETS:
        return TEMPLATE_SETS[name].templates
    if Path(name).suffix != ".json" and not Path(name).is_file():
        raise InputError(
            f"There are no templates '{name}'; there are: {', '.join(TEMPLATE_SETS)}. Or give a .json file of them."
        )
    return read_templates(name)


def _published(name: str, score: str) -> tuple[LabelPrompts, ...]:
    found = prompt_set(name).prompts
    denied = all(each.negative for each in found)
    if denied == (SCORES[score].sides == SIDES):
        return found
    if denied:
        raise InputError(
            f"The prompts '{name}' affirm and deny each label, which the score 'pairs' compares; this one is "
            f"'{score}'. Choose score 'pairs', or give labels: a list, or {{label: prompts}}."
        )
    raise InputError(
        f"The prompts '{name}' only affirm their labels; the score 'pairs' compares them with prompts that deny them. "
        "Choose score 'softmax', which compares labels with each other."
    )


def _in_pairs(prompts: Any, templates: Templates | None) -> Any:
    """Labels alone with what affirms and denies them; anything else as it is."""
    if not isinstance(prompts, (list, tuple)):
        return prompts
    if templates is None or not templates.negative:
        both = ", ".join(name for name, each in TEMPLATE_SETS.items() if each.templates.negative)
        raise InputError(
            f"A {type(prompts).__name__} came where prompts are expected: {{label: (positive prompts, negative "
            "prompts)}. The score 'pairs' compares what affirms a label with what denies it. For labels alone choose "
            f"templates that do both ({both}), or score 'softmax', which compares labels with each other."
        )
    return {label: templates.filled(label) for label in label_names(prompts)}
