"""What zero-shot classification asks: for each label, prompts that affirm it and prompts that deny it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from runtime.errors import Fault, InputError
from runtime.files import read_json
from runtime.process.checks import path_of

__all__ = ["SIDES", "LabelPrompts", "Prompts", "check_prompts", "read_prompts"]

Prompts: TypeAlias = Mapping[str, "tuple[Sequence[str], Sequence[str]] | Mapping[str, Sequence[str]]"]

SIDES = ("positive", "negative")
_EXPECTED = '{label: (positive prompts, negative prompts)}, such as {"Edema": (["Edema"], ["No edema"])}'
# Without these a prompt has no words: the tokenizer strips trailing "!?." as the reference does.
_NO_WORDS = " \t\r\n!?."


@dataclass(frozen=True)
class LabelPrompts:
    """A label and its prompts.

    Attributes:
        label: what the answer is called.
        positive: prompts that affirm it, at least one.
        negative: prompts that deny it, at least one.
    """

    label: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]


def check_prompts(prompts: Prompts) -> tuple[LabelPrompts, ...]:
    """Check prompts as far as that needs no model.

    Args:
        prompts: label → (positive prompts, negative prompts), or label → {"positive": prompts, "negative": prompts};
            prompts are lists or tuples of str.

    Returns:
        The labels in the order given.

    Raises:
        InputError: not a mapping, or empty; labels that are no str, blank, or the same but for case and spaces; prompts
            that are missing on a side, a str rather than a list of them, without a word, or the same on both sides. All
            faults are listed together, by label.
    """
    if not isinstance(prompts, Mapping):
        raise InputError(f"A {type(prompts).__name__} came where prompts are expected: {_EXPECTED}.")
    if not prompts:
        raise InputError(f"There are no labels; at least one is expected: {_EXPECTED}.")
    checked: list[LabelPrompts] = []
    faults: list[Fault] = []
    seen: dict[str, str] = {}
    for index, (label, value) in enumerate(prompts.items()):
        reasons = _label_faults(label, seen)
        sides, more = _sides(value)
        reasons += more
        checked.append(LabelPrompts(label, *sides))
        if reasons:
            faults.append(Fault(index, f"label {label!r}", "; ".join(reasons)))
    if faults:
        raise InputError.from_faults("labels", faults, len(prompts))
    return tuple(checked)


def read_prompts(path: str | os.PathLike[str]) -> tuple[LabelPrompts, ...]:
    """Read prompts from a JSON file: {"label": {"positive": ["…"], "negative": ["…"]}, …}.

    Raises:
        InputError: the file is missing or is no JSON, a name is given twice in it, and as for `check_prompts`.
    """
    try:
        content = read_json(path_of("prompts", path))
    except OSError as error:
        raise InputError(f"The prompts {path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise InputError(f"The prompts {path} cannot be used: {error}. JSON of {_EXPECTED_JSON} is expected.") from None
    if not isinstance(content, dict):
        raise InputError(f"The prompts {path} hold no object; JSON of {_EXPECTED_JSON} is expected.")
    try:
        return check_prompts(content)
    except InputError as error:
        raise InputError(f"The prompts {path} cannot be used. {error}", error.faults) from None


_EXPECTED_JSON = '{"label": {"positive": ["…"], "negative": ["…"]}}'


def _label_faults(label: Any, seen: dict[str, str]) -> list[str]:
    if not isinstance(label, str):
        return [f"a {type(label).__name__} came where a name (str) is expected"]
    if not label.strip():
        return ["is blank; a name is expected"]
    if not label.isprintable():
        return ["holds a line break or another character that cannot be printed. Remove it"]
    first = seen.setdefault(label.strip().casefold(), label)
    return [f"is given twice: {first!r} is the same but for case and spaces. Merge them"] if first != label else []


def _sides(value: Any) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], list[str]]:
    """Positive and negative prompts, and what is wrong with them."""
    if isinstance(value, Mapping):
        unknown = [name for name in value if name not in SIDES]
        if unknown:
            return ((), ()), [f"has {', '.join(map(repr, unknown))}; 'positive' and 'negative' are expected"]
        pair: Sequence[Any] = [value.get(side, ()) for side in SIDES]
    elif not isinstance(value, (list, tuple)) or len(value) > len(SIDES):
        shown = f"{len(value)} items" if isinstance(value, (list, tuple)) else f"a {type(value).__name__}"
        return ((), ()), [f"{shown} came where (positive prompts, negative prompts) is expected"]
    else:
        pair = [*value, (), ()][: len(SIDES)]
    reasons: list[str] = []
    for side, prompts in zip(SIDES, pair, strict=True):
        reasons += _side_faults(side, prompts)
    if reasons:
        return ((), ()), reasons
    positive, negative = map(tuple, pair)
    both = [prompt for prompt in positive if prompt in negative]
    if both:
        return ((), ()), [f"{both[0]!r} is both a positive and a negative prompt. Remove it from one side"]
    return (positive, negative), []


def _side_faults(side: str, prompts: Any) -> list[str]:
    if isinstance(prompts, str):
        return [f"its {side} prompts are a str; a list is expected: [{prompts!r}]"]
    if not isinstance(prompts, (list, tuple)):
        return [f"its {side} prompts are a {type(prompts).__name__}; a list of str is expected"]
    if not prompts:
        return [
            f"has no {side} prompts; both sides need one, since a probability compares them. For a phrase alone there "
            "is engine.similarity"
        ]
    return [
        f"{side} prompt {number} is {'without a word' if isinstance(prompt, str) else f'a {type(prompt).__name__}'}; "
        "a phrase (str) is expected"
        for number, prompt in enumerate(prompts, 1)
        if not isinstance(prompt, str) or not prompt.strip(_NO_WORDS)
    ]
