"""`python -m runtime fill-mask`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

import runtime
from runtime.__main__ import main
from tests.conftest import System

ONE, TWO = "Small [MASK] pleural effusion.", "[MASK] opacity in the [MASK] lung"


def test_words_are_printed_with_their_scores(tiny: System, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fill-mask", str(tiny.bundle), ONE, TWO, "--top-k", "2", "--targets", "left,right"]) == 0
    printed = capsys.readouterr()
    one, two = runtime.load(tiny.bundle).text.fill_mask([ONE, TWO], 2, ["left", "right"])
    lines = printed.out.splitlines()
    assert (lines[0], lines[3], lines[4], lines[7]) == (ONE, TWO, "  mask 1", "  mask 2")
    for line, each in zip([*lines[1:3], *lines[5:7], *lines[8:10]], [*one, *two[0], *two[1]], strict=True):
        score, word, sequence = line.split(maxsplit=2)
        assert abs(float(score) - each["score"]) <= 5.1e-5
        assert (word, sequence) == (each["token_str"], each["sequence"])
    assert "Random weights" in printed.err


@pytest.mark.parametrize("texts", [[ONE], [TWO], [ONE, TWO]])
def test_json_is_what_the_engine_gives(tiny: System, texts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fill-mask", str(tiny.bundle), *texts, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == runtime.load(tiny.bundle).text.fill_mask(texts)


def test_a_request_as_the_hosted_endpoint_takes_it(
    tiny: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = runtime.load(tiny.bundle).text
    request = tmp_path / "request.json"
    for given, expected in (
        ({"inputs": ONE}, text.fill_mask(ONE)),
        ({"inputs": [ONE, TWO], "parameters": {"top_k": 2, "targets": None}}, text.fill_mask([ONE, TWO], 2)),
        ({"inputs": ONE, "parameters": {"targets": ["left", "no"]}}, text.fill_mask(ONE, targets=["left", "no"])),
    ):
        request.write_text("\ufeff" + json.dumps(given), encoding="utf-8")
        assert main(["fill-mask", str(tiny.bundle), "--json-input", str(request)]) == 0
        assert json.loads(capsys.readouterr().out) == expected
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(given)))
        assert main(["fill-mask", str(tiny.bundle), "--json-input", "-"]) == 0
        assert json.loads(capsys.readouterr().out) == expected


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON: it is nested too deeply"),
        ('{"inputs": "a", "inputs": "b"}', "cannot be read as JSON: 'inputs' is given twice"),
        ('{"inputs": "x", "parameters": {"top_k": %s}}' % ("9" * 5000), "it has a whole number of 5000 digits"),
        ('{"inputs": "x", "parameters": {"top_k": true}}', "'top_k' must be a whole number"),
        ('{"inputs": "x", "parameters": []}', "'parameters' is a list, not an object"),
        ("[]", "it is a list, not an object"),
        ('{"parameters": {}}', "'inputs' must be a text or a list of texts"),
        ('{"inputs": [1], "more": 2, "parameters": []}', "unknown key 'more'; 'inputs' must be a text"),
        ('{"inputs": "x", "parameters": [1]}', "'parameters' is a list, not an object"),
        (
            '{"inputs": "x", "parameters": {"k": 1, "top_k": "5", "targets": 3}}',
            "unknown parameter 'k'; 'top_k' must be a whole number; 'targets' must be a list of words",
        ),
        ('{"inputs": "[MASK]", "parameters": {"top_k": 0}}', "top_k=0; a whole number of at least 1 is expected"),
    ],
)
def test_bad_requests(
    tiny: System, tmp_path: Path, request_: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "request.json").write_text(request_)
    assert main(["fill-mask", str(tiny.bundle), "--json-input", str(tmp_path / "request.json")]) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert not printed.out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 1, "No text was given. Give one with a [MASK]"),
        (["No mask"], 1, "'No mask': has no [MASK]."),
        ([ONE, "--json-input", "-"], 1, "give either it or TEXT"),
        (["--json-input", "absent.json"], 1, "absent.json cannot be read as JSON"),
        ([ONE, "--targets", ","], 1, "None of the targets ['', ''] has a token"),
        ([ONE, "--top-k", "0"], 2, "--top-k"),
    ],
)
def test_wrong_usage(
    tiny: System, arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        found = main(["fill-mask", str(tiny.bundle), *arguments])
    except SystemExit as error:
        found = error.code
    assert found == status
    assert message in capsys.readouterr().err
