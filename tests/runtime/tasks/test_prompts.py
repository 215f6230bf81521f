"""Prompts of zero-shot classification: what is taken and what is refused, and the published sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.errors import InputError
from runtime.tasks.prompt_sets import PROMPT_SETS, prompt_set
from runtime.tasks.prompts import LabelPrompts, check_prompts, read_prompts
from runtime.tasks.zero_shot import RULES

GOOD = (["edema"], ["no edema"])


def test_pairs_and_named_sides_are_the_same() -> None:
    expected = (LabelPrompts("Edema", ("edema", "wet lungs"), ("no edema",)), LabelPrompts("b", ("b",), ("not b",)))
    assert check_prompts({"Edema": (["edema", "wet lungs"], ("no edema",)), "b": [["b"], ["not b"]]}) == expected
    named = {"positive": ("edema", "wet lungs"), "negative": ["no edema"]}
    assert check_prompts({"Edema": named, "b": {"negative": ["not b"], "positive": ["b"]}}) == expected


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (["Edema"], r"A list came where prompts are expected: \{label: "),
        ("Edema", "A str came where prompts are expected"),
        ({}, "There are no labels"),
        ({"Edema": ([], ["no edema"])}, "label 'Edema': has no positive prompts; both sides need one"),
        ({"Edema": (["edema"], [])}, "label 'Edema': has no negative prompts"),
        ({"Edema": ([], [])}, "no positive prompts.*; has no negative prompts"),
        ({"Edema": (["edema"],)}, "label 'Edema': has no negative prompts"),
        ({"Edema": []}, "no positive prompts.*; has no negative prompts"),
        ({"Edema": {"positive": ["edema"]}}, "has no negative prompts"),
        ({"Edema": {"positive": ["edema"], "negativ": ["no"]}}, "has 'negativ'; 'positive' and 'negative' are"),
        ({"Edema": "edema"}, r"label 'Edema': a str came where \(positive prompts, negative prompts\)"),
        ({"Edema": None}, "a NoneType came where"),
        ({"Edema": (["a"], ["b"], ["c"])}, "3 items came where"),
        ({"Edema": ("edema", ["no edema"])}, r"its positive prompts are a str; a list is expected: \['edema'\]"),
        ({"Edema": (["edema"], "no edema")}, r"its negative prompts are a str.*\['no edema'\]"),
        ({"Edema": (["edema"], None)}, "its negative prompts are a NoneType"),
        ({"Edema": (["edema", 3], ["no"])}, "positive prompt 2 is a int; a phrase"),
        ({"Edema": (["edema"], ["no", " .!? "])}, "negative prompt 2 is without a word"),
        ({"Edema": (["edema", "x"], ["no edema", "x"])}, "'x' is both a positive and a negative prompt"),
        ({3: GOOD}, "label 3: a int came where a name"),
        ({"a\nb": GOOD}, "holds a line break"),
        ({"\ud800": GOOD}, "cannot be printed"),
        ({" ": GOOD}, "label ' ': is blank"),
        ({"Edema": GOOD, "edema ": GOOD}, "label 'edema ': is given twice: 'Edema' is the same but for case"),
    ],
)
def test_what_is_refused(prompts: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_prompts(prompts)  # type: ignore[arg-type]


def test_all_faults_are_listed_together() -> None:
    prompts = {"a": ([], "no"), "b": GOOD, "c": "c", "B": GOOD}
    with pytest.raises(InputError) as caught:
        check_prompts(prompts)  # type: ignore[arg-type]
    assert "3 of 4 labels cannot be used" in str(caught.value)
    assert [(fault.index, fault.name) for fault in caught.value.faults] == [
        (0, "label 'a'"),
        (2, "label 'c'"),
        (3, "label 'B'"),
    ]
    assert "no positive prompts" in caught.value.faults[0].reason
    assert "negative prompts are a str" in caught.value.faults[0].reason


def test_a_file_of_prompts(tmp_path: Path) -> None:
    file = tmp_path / "prompts.json"
    prompts = {"Ödem": {"positive": ["edema"], "negative": ["no edema"]}, "b": [["b"], ["not b"]]}
    for encoding in ("utf-8", "utf-8-sig"):
        file.write_text(json.dumps(prompts, ensure_ascii=False), encoding=encoding)
        assert read_prompts(file) == check_prompts(prompts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": [["x"], ["y"]], "a": [["x"], ["y"]]}', "'a' is given twice"),
        ('{"a": {"positive": ["x"], "positive": ["z"], "negative": ["y"]}}', "'positive' is given twice"),
        ('{"a": ', "Expecting value.*JSON of"),
        ('[["x"], ["y"]]', "hold no object"),
        ('{"a": [["x"]]}', "prompts.json cannot be used. label 'a': has no negative"),
        (b"\xff\xfe", "cannot be used"),
        ('{"a": [["x"], ["y"]]}'.encode("utf-16"), "cannot be used: is UTF-16 or UTF-32. Save it as UTF-8"),
        (b'{\n"a": [["caf\xe9"], ["y"]]}', "is not UTF-8 .byte 0xe9 in line 2"),
        ("[" * 100_000, "cannot be used: it is nested too deeply"),
        ("9" * 5000, "it has a whole number of 5000 digits"),
        ('{"a": [[NaN], ["y"]]}', "positive prompt 1 is a float"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    file = tmp_path / "prompts.json"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=message):
        read_prompts(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.json cannot be read: No such file"):
        read_prompts(tmp_path / "absent.json")


def test_built_in_sets_pass_their_own_check_and_say_where_they_come_from() -> None:
    for name, found in PROMPT_SETS.items():
        if name.startswith("biomedclip"):  # of a paper; its classes are compared with each other
            assert check_prompts({each.label: each.positive for each in found.prompts}, ()) == found.prompts
            assert found.licence == ""
            assert len(found.prompts) >= 2
        else:
            both = {each.label: (each.positive, each.negative) for each in found.prompts}
            assert check_prompts(both) == found.prompts
            assert found.licence == "MIT"
        assert found.rule in RULES
        assert found.source
    with pytest.raises(InputError, match="no prompt set 'rsna'; there are: pneumonia, chexpert"):
        prompt_set("rsna")


def test_built_in_sets_are_the_published_ones(shared_data: Path) -> None:
    published = json.loads((shared_data / "prompts" / "zero_shot_prompts.json").read_text(encoding="utf-8"))
    hi_ml, chexzero = (
        next(value for name, value in published.items() if name.startswith(who)) for who in ("hi-ml", "CheX")
    )
    (pneumonia,) = prompt_set("pneumonia").prompts
    assert list(pneumonia.positive) == hi_ml["pneumonia_positive"]
    assert list(pneumonia.negative) == hi_ml["pneumonia_negative"]
    positive, negative = chexzero["template"]
    expected = [
        LabelPrompts(label, (positive.format(label),), (negative.format(label),)) for label in chexzero["labels"]
    ]
    assert list(prompt_set("chexpert").prompts) == expected
    assert prompt_set("chexpert").prompts[0] == LabelPrompts("Atelectasis", ("Atelectasis",), ("no Atelectasis",))
