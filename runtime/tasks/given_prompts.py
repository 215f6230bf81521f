"""Prompts as commands are given them: a built-in set by its name, or a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runtime.errors import InputError
from runtime.tasks.prompt_sets import PROMPT_SETS
from runtime.tasks.prompts import SIDES, LabelPrompts, read_prompts
from runtime.tasks.zero_shot import SCORES, resolve

__all__ = ["given_prompts"]


def given_prompts(name: str, rule: str, score: str, templates: Sequence[str]) -> tuple[LabelPrompts, ...]:
    """The prompts of a built-in set, or those in a file.

    Args:
        name: of a set of `PROMPT_SETS`, or path of a JSON file, see `read_prompts`.
        rule: one of `RULES`.
        score: one of `SCORES`, which decides whether labels have negative prompts.
        templates: what labels alone become prompts by, for scores without negative prompts.

    Raises:
        InputError: neither a set nor a file, a set that does not go with the score, and as for `read_prompts`.
    """
    if name in PROMPT_SETS:
        return resolve(name, rule, score)[0]
    if Path(name).suffix != ".json" and not Path(name).is_file():
        raise InputError(
            f"There is no prompt set '{name}'; there are: {', '.join(PROMPT_SETS)}. Or give a .json file of prompts."
        )
    return read_prompts(name, None if SCORES[score].sides == SIDES else templates)
