"""What zero-shot classification asks: for each label, prompts that affirm it and prompts that deny it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from runtime.errors import Fault, InputError
from runtime.files import read_json
from runtime.process.checks import path_of
from runtime.tasks.templates import Templates

__all__ = [
    "SIDES",
    "LabelPrompts",
    "Prompts",
    "by_label",
    "check_prompts",
    "in_file",
    "label_names",
    "load_prompts",
    "prompt_texts",
    "read_prompts",
]

Prompts: TypeAlias = (
    "Mapping[str, tuple[Sequence[str], Sequence[str]] | Mapping[str, Sequence[str]] | Sequence[str]] | Sequence[str]"
)

SIDES = ("positive", "negative")
_EXPECTED = '{label: (positive prompts, negative prompts)}, such as {"Edema": (["Edema"], ["No edema"])}'
_EXPECTED_LABELS = 'labels, such as ["Edema", "Pneumonia"], or {label: prompts}, such as {"Edema": ["Pulmonary edema"]}'
# Without these a prompt has no words: the tokenizer strips trailing "!?." as the reference does.
_NO_WORDS = " \t\r\n!?."


@dataclass(frozen=True)
class LabelPrompts:
    """A label and its prompts.

    Attributes:
        label: what the answer is called.
        positive: prompts that affirm it, at least one.
        negative: prompts that deny it, at least one; none where labels are compared with each other or stand alone.
    """

    label: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]


def check_prompts(prompts: Prompts, templates: Sequence[str] | None = None) -> tuple[LabelPrompts, ...]:
    """Check prompts as far as that needs no model.

    Args:
        prompts: label → (positive prompts, negative prompts), or label → {"positive": prompts, "negative": prompts};
            prompts are lists or tuples of str. With `templates`: label → prompts, or labels alone.
        templates: of a score that takes no negative prompts: what labels alone become prompts by, "{}" standing for the
            label; empty where a label is its own prompt. None for pairs.

    Returns:
        The labels in the order given.

    Raises:
        InputError: not a mapping, or empty; labels that are no str, blank, or the same but for case and spaces; prompts
            that are missing on a side, a str rather than a list of them, without a word, or the same on both sides;
            negative ones where none are compared. All faults are listed together, by label.
    """
    prompts = prompts if templates is None else _filled_in(prompts, templates)
    expected = _EXPECTED if templates is None else _EXPECTED_LABELS
    if not isinstance(prompts, Mapping):
        raise InputError(f"A {type(prompts).__name__} came where prompts are expected: {expected}.")
    if not prompts:
        raise InputError(f"There are no labels; at least one is expected: {expected}.")
    checked: list[LabelPrompts] = []
    faults: list[Fault] = []
    seen: dict[str, str] = {}
    for index, (label, value) in enumerate(prompts.items()):
        reasons = _label_faults(label, seen)
        sides, more = _sides(value) if templates is None else _affirming(value)
        reasons += more
        checked.append(LabelPrompts(label, *sides))
        if reasons:
            faults.append(Fault(index, f"label {label!r}", "; ".join(reasons)))
    if faults:
        raise InputError.from_faults("labels", faults, len(prompts))
    return tuple(checked)


def label_names(labels: Sequence[Any]) -> list[str]:
    """Labels that are given alone, checked as far as a mapping of them would not show.

    Raises:
        InputError: one is no str, or came twice; all of them are listed.
    """
    named: dict[str, None] = {}
    faults: list[Fault] = []
    for index, label in enumerate(labels):
        if not isinstance(label, str):
            reason = f"a {type(label).__name__} came where a name (str) is expected"
            faults.append(Fault(index, f"label {label!r}", reason))
        elif label in named:
            faults.append(Fault(index, f"label {label!r}", "is given twice. Leave one out"))
        else:
            named[label] = None
    if faults:
        raise InputError.from_faults("labels", faults, len(labels))
    return [*named]


def _filled_in(prompts: Any, templates: Sequence[str]) -> Any:
    """Labels alone with the prompts that templates make of them; anything else as it is."""
    if not isinstance(prompts, (list, tuple)):
        return prompts
    filled = Templates(tuple(templates or ("{}",)))
    return {label: filled.filled(label)[0] for label in label_names(prompts)}


def read_prompts(path: str | os.PathLike[str], templates: Sequence[str] | None = None) -> tuple[LabelPrompts, ...]:
    """Read prompts from a JSON file.

    Args:
        path: of {"label": {"positive": ["…"], "negative": ["…"]}, …}; with `templates` of {"label": ["…"], …} or of
            ["label", …].
        templates: as for `check_prompts`.

    Raises:
        InputError: the file is missing or is no JSON, a name is given twice in it, and as for `check_prompts`.
    """
    content = load_prompts(path, templates is not None)
    try:
        return check_prompts(content, templates)
    except InputError as error:
        raise in_file(path, error) from None


def load_prompts(path: str | os.PathLike[str], labels_alone: bool) -> Any:
    """What a JSON file of prompts holds, not checked but for being an object or a list.

    Args:
        path: see `read_prompts`.
        labels_alone: whether a list of labels is expected as well.

    Raises:
        InputError: the file is missing or is no JSON, or holds something else; a name is given twice in it.
    """
    expected = '{"label": ["…"]} or ["label"]' if labels_alone else _EXPECTED_JSON
    try:
        content = read_json(path_of("prompts", path))
    except OSError as error:
        raise InputError(f"The prompts {path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise InputError(f"The prompts {path} cannot be used: {error}. JSON of {expected} is expected.") from None
    if not isinstance(content, dict) and not (labels_alone and isinstance(content, list)):
        raise InputError(f"The prompts {path} hold no object; JSON of {expected} is expected.")
    return content


def in_file(path: str | os.PathLike[str], error: InputError) -> InputError:
    """An error about prompts with the name of their file."""
    return InputError(f"The prompts {path} cannot be used. {error}", error.faults)


def prompt_texts(prompts: Sequence[LabelPrompts], sides: Sequence[str] = SIDES) -> list[str]:
    """The prompts of all labels as one list of texts: label by label, side by side."""
    return [prompt for each in prompts for side in sides for prompt in getattr(each, side)]


def by_label(prompts: Sequence[LabelPrompts], error: InputError) -> InputError:
    """An error about the list that `prompt_texts` gives, with the labels in place of the positions in it."""
    where = [
        (index, f"label {each.label!r}, {side} prompt {number}")
        for index, each in enumerate(prompts)
        for side in SIDES
        for number, _ in enumerate(getattr(each, side), 1)
    ]
    faults = [
        Fault(where[fault.index][0], f"{where[fault.index][1]} ({fault.name})", fault.reason) for fault in error.faults
    ]
    return InputError.from_faults("prompts", faults, len(where))


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


def _affirming(value: Any) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], list[str]]:
    """Positive prompts alone, and what is wrong with them."""
    if isinstance(value, Mapping):
        denied, value = len(set(value) - {SIDES[0]}) > 0, value.get(SIDES[0], ())
    else:
        denied = isinstance(value, (list, tuple)) and any(isinstance(each, (list, tuple)) for each in value)
    if denied:
        return ((), ()), [
            "has more than prompts that affirm it; what denies a label is compared by the score 'pairs' alone. Leave "
            "it out, or choose that score"
        ]
    if isinstance(value, (list, tuple)) and not value:
        return ((), ()), ["has no prompts; at least one is expected"]
    reasons = _side_faults(SIDES[0], value)
    return ((), ()) if reasons else (tuple(value), ()), reasons


def _side_faults(side: str, prompts: Any) -> list[str]:
    if isinstance(prompts, str):
        return [f"its {side} prompts are a str; a list is expected: [{prompts!r}]"]
    if not isinstance(prompts, (list, tuple)):
        return [f"its {side} prompts are a {type(prompts).__name__}; a list of str is expected"]
    if not prompts:
        return [
            f"has no {side} prompts; both sides need one, since a probability compares them. The scores 'softmax' and "
            "'sigmoid' take labels without negative prompts, and for a phrase alone there is engine.similarity"
        ]
    return [
        f"{side} prompt {number} is {'without a word' if isinstance(prompt, str) else f'a {type(prompt).__name__}'}; "
        "a phrase (str) is expected"
        for number, prompt in enumerate(prompts, 1)
        if not isinstance(prompt, str) or not prompt.strip(_NO_WORDS)
    ]
