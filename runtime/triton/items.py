"""What a task is given and what it answers: items, each a row of a request's tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from runtime.errors import Fault

__all__ = ["Item", "Outcome", "Task", "json_tensor", "stack", "text_of", "with_faults"]

# Input's name → the item's values, one-dimensional; None of an optional input that was not sent.
Item: TypeAlias = Mapping[str, "NDArray[Any] | None"]
# Output's name → what it is for the item; or why the item cannot be used, without what it says.
Outcome: TypeAlias = "Mapping[str, NDArray[Any]] | str"


class Task(Protocol):
    """What a model does."""

    @property
    def noun(self) -> str:
        """What its items are, in the plural."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of its input tensors."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of its output tensors."""

    def run(self, items: Sequence[Item]) -> list[Outcome]:
        """Compute items of any number of requests together; one that cannot be used fails alone."""

    def stack(self, found: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """The outputs of a request, of those of its items."""

    def check(self) -> None:
        """Compute something; raises where that is no longer possible."""


def stack(found: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Outputs of one shape, item by item."""
    return {name: np.stack([each[name] for each in found]) for name in found[0]}


def text_of(item: Item, name: str, max_characters: int) -> str | Fault:
    """An item's text; a Fault, of index and name that mean nothing, where it is none or too long."""
    values = item[name]
    assert values is not None, "a required input"
    if values.shape != (1,):
        return Fault(0, "", f"{name} has shape {values.shape}; one text an item is expected")
    try:
        text = bytes(values[0]).decode("utf-8")
    except UnicodeDecodeError:
        return Fault(0, "", f"{name} is not valid UTF-8")
    if len(text) > max_characters:
        return Fault(0, "", f"{name} has {len(text)} characters; at most {max_characters} are taken")
    return text


def with_faults(
    given: Sequence[object], found: Sequence[Mapping[str, NDArray[Any]]], faults: Sequence[Fault] = ()
) -> list[Outcome]:
    """Outcomes of all items.

    Args:
        given: what was read of each item, or a Fault.
        found: what was computed, in order, of those items that are good.
        faults: of what was read and still could not be used; they are counted among what was read.
    """
    reasons = {fault.index: fault.reason for fault in faults}
    remaining, outcomes, read = iter(found), list[Outcome](), 0
    for each in given:
        if isinstance(each, Fault):
            outcomes.append(each.reason)
            continue
        outcomes.append(reasons[read] if read in reasons else next(remaining))
        read += 1
    return outcomes


def json_tensor(value: object) -> NDArray[Any]:
    """A BYTES tensor of one element: a value as JSON."""
    return np.array([json.dumps(value, ensure_ascii=False).encode()], dtype=object)
