"""The fields of a request, read by type: what is of another one is refused by the field's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from runtime.serve.request_errors import RefusedItem, RequestError
from runtime.serve.wire.bodies import whole_number

__all__ = ["Fields", "refuse_items", "type_name", "wrong_type"]

_T = TypeVar("_T")

_NAMED = {
    "dict": "an object",
    "list": "a list",
    "str": "a text",
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "NoneType": "null",
}
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
# Of a list, before what its items are is looked at: more than any field takes.
_ITEMS = 1 << 16
# Of wrong items that are listed one by one.
_LISTED = 100


def type_name(value: Any) -> str:
    """What JSON's type of a value is called: "a list"."""
    return _NAMED.get(type(value).__name__, "something else")


def wrong_type(name: str, value: Any, expected: str) -> RequestError:
    """The error for a field of another type; what came is named by its type alone."""
    return RequestError("Validation", f"`{name}` is {type_name(value)}; {expected} is expected.", param=name)


def refuse_items(items: Sequence[_T], fault: Callable[[_T], str | None], are: str, param: str) -> None:
    """Refuse items of a list that cannot be used, of very many the first.

    Args:
        items: the list.
        fault: why an item cannot be used; None where it can.
        are: what they are: "items of `inputs` are no texts".
        param: the field that the list came in.

    Raises:
        RequestError: there are such (422).
    """
    count = 0
    listed: list[RefusedItem] = []
    for index, each in enumerate(items):
        reason = fault(each)
        if reason is not None:
            count += 1
            if len(listed) < _LISTED:
                listed.append(RefusedItem(index, reason))
    if count:
        message = f"{count} of {len(items)} {are}; item {listed[0].index}: {listed[0].reason}."
        raise RequestError("Validation", message, items=listed, param=param)


@dataclass(frozen=True)
class Fields:
    """The fields of an object; null counts as left out, and fields that nobody asks for are ignored.

    All methods raise RequestError: a value of another type (422), or a list without items (400).

    Attributes:
        values: name → what came.
        within: name of the object that it is, with a point behind it: "parameters.".
        form: whether it came as a form or in a URL, where numbers and flags are texts.
    """

    values: Mapping[str, Any]
    within: str = ""
    form: bool = False

    def has(self, name: str) -> bool:
        """Whether a field is there."""
        return self.values.get(name) is not None

    def missing(self, name: str, expected: str) -> RequestError:
        """The error for a field that is not there."""
        where = f"{self.within}{name}"
        return RequestError("Validation", f"`{where}` is missing; {expected} is expected.", param=where)

    def wrong(self, name: str, expected: str) -> RequestError:
        """The error for a field that has a value which cannot be used."""
        return wrong_type(f"{self.within}{name}", self.values.get(name), expected)

    def text(self, name: str, default: str | None = None) -> str | None:
        """A text."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(name, "a text")
        return value

    def required_text(self, name: str, expected: str = "a text") -> str:
        """A text that must be there."""
        value = self.text(name)
        if value is None:
            raise self.missing(name, expected)
        return value

    def choice(self, name: str, known: Sequence[str], default: str) -> str:
        """One of some words, in whatever case."""
        value = self.text(name, default) or ""
        if value.lower() not in known:
            where = f"{self.within}{name}"
            raise RequestError("Validation", f"`{where}` is none of: {', '.join(known)}.", param=where)
        return value.lower()

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(name)
        if value is None:
            return default
        if self.form and isinstance(value, str) and value.lower() in _FLAGS:
            return _FLAGS[value.lower()]
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def optional_flag(self, name: str) -> bool | None:
        """True, false, or None where it is left out."""
        return self.flag(name, False) if self.has(name) else None

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number from `least` to `most`."""
        value = self.values.get(name)
        if value is None:
            return default
        if self.form and isinstance(value, str):
            value = whole_number(value) if whole_number(value) is not None else value
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, "a whole number")
        if not least <= value <= most:
            where = f"{self.within}{name}"
            raise RequestError("Validation", f"`{where}` is not within {least} to {most}.", param=where)
        return value

    def fields(self, name: str) -> Fields:
        """An object; one without fields where it is left out."""
        value = self.values.get(name)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return Fields(value, f"{self.within}{name}.", self.form)

    def texts(self, name: str) -> list[str]:
        """One text or a list of them, as a list; it must be there."""
        value = self.values.get(name)
        if value is None:
            raise self.missing(name, "a text or a list of texts")
        if isinstance(value, str):
            return [value]
        listed = self.items(name, "a text or a list of texts")
        where = f"{self.within}{name}"
        refuse_items(
            listed,
            lambda each: None if isinstance(each, str) else f"{type_name(each)} came where a text is expected",
            f"items of `{where}` are no texts",
            where,
        )
        return listed

    def items(self, name: str, expected: str = "a list") -> list[Any]:
        """A list with at least one item, and no more than any field takes."""
        value = self.values.get(name)
        if value is None:
            raise self.missing(name, expected)
        if not isinstance(value, list):
            raise self.wrong(name, expected)
        where = f"{self.within}{name}"
        if not value:
            raise RequestError("Empty", f"`{where}` cannot be empty.", param=where)
        if len(value) > _ITEMS:
            raise RequestError("Validation", f"`{where}` has more than {_ITEMS:,} items.", param=where)
        return value
