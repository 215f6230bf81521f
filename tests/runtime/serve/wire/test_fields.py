"""Fields by type: null counts as left out, nothing is converted but in forms, what is wrong is named and not quoted."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.serve.request_errors import RequestError
from runtime.serve.wire.fields import Fields


def refusal(call: Any) -> RequestError:
    with pytest.raises(RequestError) as raised:
        call()
    return raised.value


def test_what_is_left_out_has_its_default() -> None:
    for fields in (Fields({}), Fields({"x": None})):
        assert not fields.has("x")
        assert (fields.text("x"), fields.text("x", "d")) == (None, "d")
        assert (fields.flag("x", True), fields.optional_flag("x")) == (True, None)
        assert fields.whole("x", 7, 1, 9) == 7
        assert fields.choice("x", ("a",), "a") == "a"
        assert fields.fields("x").values == {}
        for call in (lambda: fields.texts("x"), lambda: fields.required_text("x"), lambda: fields.items("x")):  # noqa: B023
            assert (refusal(call).kind, refusal(call).param) == ("Validation", "x")


@pytest.mark.parametrize(
    ("reading", "good", "wrong"),
    [
        (lambda fields: fields.text("x"), ["", "a"], [1, True, ["a"], {}]),
        (lambda fields: fields.flag("x", True), [True, False], [0, 1, "true", [], {}]),
        (lambda fields: fields.whole("x", 5, 1, 9), [1, 9], [0, 10, 1.0, True, "5", [1], 10**30]),
        (lambda fields: fields.choice("x", ("left", "right"), "left"), ["left", "right"], ["up", "", 1, []]),
        (lambda fields: fields.texts("x"), [["a", ""]], [1, {}, True, ["a", 1], [None], [["a"]]]),
        (lambda fields: fields.items("x"), [[1], [None]], ["a", {}, 1]),
        (lambda fields: fields.fields("x").values, [{}, {"a": 1}], ["a", [], 1]),
    ],
)
def test_types(reading: Any, good: list[Any], wrong: list[Any]) -> None:
    for value in good:
        assert reading(Fields({"x": value})) == value
    for value in wrong:
        told = refusal(lambda: reading(Fields({"x": value}, "parameters.")))  # noqa: B023
        assert (told.kind, told.param) == ("Validation", "parameters.x"), value
        assert "`parameters.x`" in told.message


def test_one_text_is_a_list_of_it() -> None:
    assert Fields({"x": "a"}).texts("x") == ["a"]


def test_empty_lists_are_an_error_of_their_own() -> None:
    assert refusal(lambda: Fields({"x": []}).texts("x")).kind == "Empty"


def test_very_long_lists_are_not_looked_at() -> None:
    assert len(Fields({"x": ["a"] * 65_536}).texts("x")) == 65_536
    assert "65,536" in refusal(lambda: Fields({"x": [1] * 65_537}).texts("x")).message


def test_items_that_are_no_texts_are_listed() -> None:
    told = refusal(lambda: Fields({"x": ["secret", 1, "b", None, ["secret"]]}).texts("x"))
    assert [each.index for each in told.items] == [1, 3, 4]
    assert told.items[1].reason == "null came where a text is expected"
    assert "secret" not in str(told.items) + told.message
    many = refusal(lambda: Fields({"x": [1] * 10_000}).texts("x"))
    assert len(many.items) == 100
    assert "10000 of 10000" in many.message


def test_forms_write_numbers_and_flags_as_texts() -> None:
    form = Fields({"n": "12", "yes": "True", "no": "0", "bad": "١٢", "long": "9" * 30}, form=True)
    assert (form.whole("n", 1, 1, 20), form.flag("yes", False), form.flag("no", True)) == (12, True, False)
    for name in ("bad", "long", "yes"):
        assert refusal(lambda: form.whole(name, 1, 1, 20)).param == name  # noqa: B023
    assert refusal(lambda: form.flag("n", True)).param == "n"
