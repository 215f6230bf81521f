"""Every command line of the three packages, whatever the order of its arguments, on every Python at hand."""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bench.__main__ as bench_cli
import export.__main__ as export_cli
import runtime.__main__ as runtime_cli
from export import demo, tensorrt
from export.proof import verify
from export.triton import command as triton
from runtime.commands.parsing import CommandParser
from tests.conftest import ROOT, run_module
from tests.declared import built, declared, outcome

PARSERS: dict[str, argparse.ArgumentParser] = {
    "runtime": runtime_cli._parser(),
    "export": export_cli._parser(),
    "export verify": verify._parser(),
    "export tensorrt": tensorrt._parser(),
    "export triton": triton._parser(),
    "export.demo": demo._parser(),
    "bench": bench_cli._parser(),
}
REBUILT: dict[str, CommandParser] = {name: built(declared(parser)) for name, parser in PARSERS.items()}

# Parser and arguments → options among those found.
UNDERSTOOD: list[tuple[str, list[str], dict[str, Any]]] = [
    ("runtime", ["fill-mask", "B", "--top-k", "2", "Small [MASK]"], {"bundle": "B", "texts": ["Small [MASK]"]}),
    ("runtime", ["similarity", "B", "F", "one", "--provider", "cpu", "two"], {"phrases": ["one", "two"]}),
    ("runtime", ["similarity", "--provider", "cpu", "B", "F", "--json", "one"], {"image": "F", "phrases": ["one"]}),
    ("runtime", ["embed", "B", "--out", "o", "--", "-film.png"], {"bundle": "B", "inputs": ["-film.png"], "out": "o"}),
    ("runtime", ["embed", "--out", "o", "--", "-b", "-i", "--", "--out"], {"inputs": ["-i", "--", "--out"]}),
    ("runtime", ["embed", "B", "x", "--out", "o", "--"], {"inputs": ["x"]}),
    ("runtime", ["embed", "B", "-", "--out", "o"], {"inputs": ["-"]}),
    ("runtime", ["embed", "B", "-5", "-.5", "- a line", "--out", "o", ""], {"inputs": ["-5", "-.5", "- a line", ""]}),
    ("runtime", ["embed", "--text", "-5 degrees", "B", "--out", "o"], {"text": ["-5 degrees"], "inputs": []}),
    ("runtime", ["embed", "B", "--text", "-x", "--text", "--no", "--out", "-o"], {"text": ["-x", "--no"], "out": "-o"}),
    ("runtime", ["embed", "B", "--text=--out", "--text=", "--text=--", "--out=a=b"], {"text": ["--out", "", "--"]}),
    ("runtime", ["embed", "B", "--column", "-x", "--out", "o"], {"column": "-x"}),
    ("runtime", ["embed", "B", "--out", "first", "--out", "last"], {"out": "last"}),
    ("runtime", ["ground", "--box", "-1,-1,2,2", "--box", "0,0,1,1", "--", "-b", "-i", "--"], {"phrase": "--"}),
    ("runtime", ["fill-mask", "B", "--json-input", "-"], {"json_input": "-", "texts": []}),
    ("runtime", ["fill-mask", "B", "- [MASK]", "--targets", "-a,-b"], {"texts": ["- [MASK]"], "targets": "-a,-b"}),
    ("runtime", ["doctor"], {"bundle": None, "json": False}),
    ("runtime", ["doctor", "--json", "B"], {"bundle": "B", "json": True}),
    ("runtime", ["doctor", "--json", "--", "-B"], {"bundle": "-B"}),
    ("runtime", ["search", "--top-k", "3", "B", "--json", "I", "--exact", "q", "--text", "t", "r"],
     {"inputs": ["q", "r"]}),
    ("runtime", ["info", "--json", "--", "--"], {"bundle": "--"}),
    ("export", ["--checkpoint", "-c", "biovil", "--out", "-o"], {"family": "biovil", "checkpoint": "-c"}),
    ("export", ["--list"], {"family": None, "list": True}),
    ("export verify", ["--provider", "cpu", "B", "--json"], {"provider": "cpu", "json": True}),
    ("export tensorrt", ["--precision", "fp16", "--", "-B"], {"precision": "fp16"}),
    ("export triton", ["--out", "o", "--backend", "openvino", "--", "-B"], {"bundle": "-B", "backend": "openvino"}),
    ("bench", ["compare", "a", "--json", "b"], {"json": True}),
    ("bench", ["compare", "--threshold", "5", "a", "--", "-b"], {"json": False}),
    ("bench", ["report", "--out", "o", "R"], {}),
    ("bench", ["manners", "--json", "B"], {"json": True}),
    ("bench", ["run", "--peers", "engine", "--full"], {"full": True}),
    ("bench", ["quality", "triplets", "--json", "B", "--data", "-d"], {"json": True}),
]  # fmt: skip

# Parser and arguments → exit status 2, and what the error's line ends with.
REFUSED = [
    ("runtime", [], "the following arguments are required: COMMAND"),
    ("runtime", ["embde", "B"], "did you mean embed?"),
    ("runtime", ["--json", "info", "B"], "unrecognized arguments: --json; options stand after the command"),
    ("runtime", ["embed", "B", "x", "--ou", "o"], "unrecognized arguments: --ou; did you mean --out?"),
    ("runtime", ["embed", "B", "x", "--skpi-bad", "--out=o"], "arguments: --skpi-bad; did you mean --skip-bad?"),
    ("runtime", ["embed", "B", "-f.png", "--out", "o"], "unrecognized arguments: -f.png; what begins with a dash and "
     "is no option stands after --, as in: -- -f.png"),
    ("runtime", ["embed", "B", "--tex=a b", "--out=o"], "unrecognized arguments: --tex=a b; did you mean --text?"),
    ("runtime", ["embed", "B", "x"], "the following arguments are required: --out"),
    ("runtime", ["embed"], "the following arguments are required: bundle, --out"),
    ("runtime", ["embed", "B", "--out"], "argument --out: expected one argument"),
    ("runtime", ["embed", "B", "--out", "--"], "argument --out: expected one argument"),
    ("runtime", ["embed", "B", "--out", "o", "--text", "--out"], "an option came; if it is the value: --text=--out"),
    ("runtime", ["embed", "B", "--out", "o", "--text", "--out=x"], "an option came; if it is the value: "
     "--text=--out=x"),
    ("runtime", ["embed", "B", "--out=o", "--resume=yes"], "argument --resume: takes no value, but 'yes' came"),
    ("runtime", ["embed", "B", "--out=o", "--column", "a", "--image-column", "b"],
     "argument --image-column: not allowed with argument --column"),
    ("runtime", ["embed", "B", "--out=o", "--provider", "cup"], "did you mean cpu?"),
    ("runtime", ["ground", "B", "--json", "i"], "the following arguments are required: PHRASE"),
    ("runtime", ["similarity", "B", "--json"], "the following arguments are required: image, PHRASE"),
    ("runtime", ["info", "b", "--json", "more", "still"], "unrecognized arguments: more still"),
    ("runtime", ["info", "b", "--", "--json"], "unrecognized arguments: --json"),
    ("export", ["biovil", "biovil"], "unrecognized arguments: biovil"),
    ("export", ["biovli"], "did you mean biovil?"),
    ("bench", ["compare", "a"], "the following arguments are required: new"),
    ("bench", ["quality"], "the following arguments are required: WHAT"),
    ("bench", ["quality", "triplet", "B"], "did you mean triplets?"),
]  # fmt: skip

# The same, but for values: parsers without types, as `declared` has them, take these.
REFUSED_VALUES = [
    ("runtime", ["embed", "B", "x", "--out=o", "--threads", "0"], "argument --threads: 0; at least 1 is expected"),
    ("runtime", ["embed", "B", "x", "--out=o", "--frame", "1.5"], "argument --frame: invalid count value: '1.5'"),
    ("runtime", ["search", "B", "I", "q", "--top-k", "0"], "argument --top-k: 0; at least 1 is expected"),
    ("runtime", ["tune", "B", "--threads", "2,0"], "argument --threads: 0; at least 1 is expected"),
    ("runtime", ["tune", "B", "--threads", "2,"], "argument --threads: invalid counts value: '2,'"),
    ("export", ["biovil", "--seed", "-1"], "argument --seed: -1; at least 0 is expected"),
    ("export tensorrt", ["B", "--max-batch", "0"], "argument --max-batch: 0; at least 1 is expected"),
    ("export tensorrt", ["B", "--lengths", "128,0"], "argument --lengths: 0; at least 1 is expected"),
    ("bench", ["run", "--seed", "-1"], "argument --seed: -1; at least 0 is expected"),
    ("bench", ["quality", "masked", "B", "--data=d", "--seed=-1"], "argument --seed: -1; at least 0 is expected"),
    ("bench", ["manners", "B", "--seconds", "0"], "argument --seconds: 0; a number above 0 is expected"),
]  # fmt: skip


def leaves(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Commands that have no commands, with their names."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, each in action.choices.items():
                yield from leaves(each, (*path, name))
            return
    yield path, parser


LEAVES = {
    " ".join((name, *path)): (parser, path, leaf) for name, parser in PARSERS.items() for path, leaf in leaves(parser)
}


def value_of(action: argparse.Action) -> str:
    """One that every type takes."""
    if action.choices:
        return str(next(iter(action.choices)))
    return "fp32" if action.dest == "precision" else "3"


def test_what_is_declared_is_what_the_parser_reads() -> None:
    for _, _, leaf in LEAVES.values():
        for action in leaf._actions:
            allowed = (None, 0) if action.option_strings else (None, "?", "*", "+")
            assert action.nargs in allowed, action


def found(parser: argparse.ArgumentParser, arguments: list[str]) -> dict[str, Any]:
    return vars(parser.parse_args(arguments))


@pytest.mark.parametrize("name", LEAVES)
def test_the_order_of_options_and_positionals_is_free(name: str) -> None:
    parser, path, leaf = LEAVES[name]
    positionals: list[list[str]] = []
    options: list[list[str]] = []
    expected: dict[str, Any] = {}
    alone = {each.dest for group in leaf._mutually_exclusive_groups for each in group._group_actions[1:]}
    for action in leaf._actions:
        value = value_of(action)
        if action.dest == "help" or action.dest in alone:
            continue
        if action.option_strings:
            options.append([action.option_strings[0], *([] if action.nargs == 0 else [value])])
        else:
            positionals += [[value]] * (2 if action.nargs in ("*", "+") else 1)
        typed = action.type(value) if action.type else value
        is_many = action.nargs in ("*", "+")
        expected[action.dest] = True if action.nargs == 0 else [typed, typed] if is_many else typed
        if type(action).__name__ == "_AppendAction":
            expected[action.dest] = [typed]
    # All options in turn take the places between positionals; a full product would be millions.
    for split in range(len(positionals) + 1):
        before, after = positionals[:split], positionals[split:]
        for first in range(0, len(options) + 1, max(1, len(options) // 6)):
            given = found(parser, [*path, *itertools.chain(*options[:first], *before, *options[first:], *after)])
            assert {each: given[each] for each in expected} == expected
    # Positionals after --, options of every shape before.
    line = [*(f"{each[0]}={each[1]}" if len(each) > 1 else each[0] for each in options), "--"]
    given = found(parser, [*path, *line, *itertools.chain(*positionals)])
    assert {each: given[each] for each in expected} == expected


@pytest.mark.parametrize(("name", "arguments", "expected"), UNDERSTOOD, ids=lambda value: " ".join(value) or None)
def test_understood(name: str, arguments: list[str], expected: dict[str, Any]) -> None:
    options = found(PARSERS[name], arguments)
    assert {each: options[each] for each in expected} == expected


@pytest.mark.parametrize(
    ("name", "arguments", "ending"), [*REFUSED, *REFUSED_VALUES], ids=lambda value: " ".join(value)[-40:] or None
)
def test_refused(name: str, arguments: list[str], ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        PARSERS[name].parse_args(arguments)
    assert caught.value.code == 2
    printed, said = capsys.readouterr()
    assert printed == ""
    assert said.splitlines()[-1].endswith(ending), said


@pytest.mark.parametrize(
    "arguments",
    [["-h"], ["embed", "-h"], ["embed", "--oops", "B", "--help"], ["embed", "--out", "-h"], ["info", "a", "b", "-h"]],
)
def test_help_wherever_it_is_asked_for(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        PARSERS["runtime"].parse_args(arguments)
    assert caught.value.code == 0
    printed, said = capsys.readouterr()
    assert printed.startswith(f"usage: python -m runtime {'' if arguments[0] == '-h' else arguments[0]}".strip())
    assert said == ""


def test_help_is_a_value_or_a_positional_where_that_is_said() -> None:
    assert found(PARSERS["runtime"], ["embed", "--out=o", "--text=-h", "B", "--", "-h"])["inputs"] == ["-h"]


def test_commands_of_export_stand_first(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        PARSERS["export"].parse_args(["--json", "verify", "B"])
    assert "'verify' stands before its options: python -m export verify BUNDLE" in capsys.readouterr().err


@pytest.mark.slow
def test_names_that_begin_with_a_dash_arrive(tmp_path: Path) -> None:
    (tmp_path / "-notes.txt").write_text("one\ntwo\n")
    named = ["embed", "--out", "-o.npy", "--", "no-bundle", "-notes.txt"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "runtime", *named], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "BundleError" in done.stderr, "the names were taken, and the bundle looked for"
    assert "unrecognized arguments: -x" in run_module("export.demo", "-x", expect=2).stderr


@functools.cache
def interpreters() -> dict[str, str | None]:
    """Version → interpreter, of those that this project supports and this is not."""
    found: dict[str, str | None] = {}
    for minor in range(10, 15):
        if minor == sys.version_info.minor:
            continue
        version = f"3.{minor}"
        home = Path.home()
        places = [*home.glob(f".pyenv/versions/{version}.*/bin/python"), shutil.which(f"python{version}")]
        places += home.glob(f".local/share/uv/python/cpython-{version}.*/bin/python{version}")
        found[version] = next((str(each) for each in places if each and runs(str(each), version)), None)
    return found


def runs(interpreter: str, version: str) -> bool:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip() == version


def request() -> dict[str, Any]:
    cases = [[name, arguments] for name, arguments, _ in (*UNDERSTOOD, *REFUSED)]
    return {"parsers": {name: declared(parser) for name, parser in PARSERS.items()}, "cases": cases}


@pytest.mark.parametrize("version", interpreters())
def test_other_pythons_read_the_same(version: str, tmp_path: Path) -> None:
    interpreter = interpreters()[version]
    if interpreter is None:
        pytest.skip(f"there is no Python {version} here")
    # What needs no package of others: this interpreter has none. So the wings' `__init__` stay behind.
    for name in ("errors", "process/console", "commands/parsing"):
        copy = tmp_path / "runtime" / f"{name}.py"
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / "runtime" / f"{name}.py", copy)
    shutil.copyfile(ROOT / "tests/declared.py", tmp_path / "declared.py")
    asked = request()
    done = subprocess.run(
        [interpreter, "declared.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    here = [outcome(REBUILT[name], arguments) for name, arguments in asked["cases"]]
    assert json.loads(done.stdout) == json.loads(json.dumps(here))
    assert sum(isinstance(each, dict) for each in here) == len(UNDERSTOOD)
