"""Other tools open the bundle's text folder with the runtime's numbers; one that does not is one row's reason."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import runtime
from bench import manners
from bench.errors import PeerError
from bench.peers.openers import EMBEDDINGS, MASKS, OPENERS
from runtime.errors import BundleError
from tests.conftest import System, edit_json

HERE = Path(sys.executable)
# What stands for an interpreter: it is given `-m bench.peers.openers REQUEST.json` and does with it as `body` says.
FAKE = """#!{python}
import json, os, sys, time
import numpy as np
told = json.load(open(sys.argv[3]))
def say(**said):
    json.dump(said, open(told["said"], "w"))
{body}
"""
RIGHT = "np.save(told['answer'], np.load({answers!r} + ('/masks.npy' if 'Masked' in told['tool'] else '/texts.npy')))"


@pytest.fixture(scope="module")
def answers(tiny: System, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The right answers, by the runtime."""
    folder = tmp_path_factory.mktemp("answers")
    text = runtime.load(tiny.bundle, provider="cpu", precision="fp32", parts=["text"]).text
    np.save(folder / "texts.npy", text.encode(manners._TEXTS))
    size = text.tokenizer.vocabulary_size
    words = np.zeros((len(manners._MASKED), size))
    for row, filled in enumerate(text.fill_mask(list(manners._MASKED), size)):
        words[row, [word["token"] for word in filled]] = np.log([word["score"] for word in filled])
    np.save(folder / "masks.npy", words)
    return folder


def fake(tmp_path: Path, body: str, answers: Path) -> Path:
    file = tmp_path / "python"
    file.write_text(FAKE.format(python=sys.executable, body=body.replace("RIGHT", RIGHT.format(answers=str(answers)))))
    file.chmod(0o755)
    return file


def test_right_answers_open_and_are_the_same(tiny: System, answers: Path, tmp_path: Path) -> None:
    found = manners.check_manners(tiny.bundle, fake(tmp_path, "RIGHT; say(version='9.9')", answers))
    assert [manner.tool for manner in found] == list(OPENERS)
    for manner in found:
        assert (manner.version, manner.opens, manner.same) == ("9.9", True, True), manner
        assert manner.max_abs <= 1e-7
        assert manner.reason == OPENERS[manner.tool].asked


BROKEN = {
    "crash": ("import signal; os.kill(os.getpid(), signal.SIGSEGV)", "it ended with exit status -11"),
    "crash after the answer": ("RIGHT; say(version='1'); os._exit(7)", "it ended with exit status 7"),
    "exception": ("raise RuntimeError('no\\nsuch graph')", "it ended with exit status 1: such graph"),
    "hang": ("time.sleep(60)", "no answer within 1 s; it was ended"),
    "refusal": ("say(version='1', error=\"KeyError: 'logits'\")", "KeyError: 'logits'"),
    "silence": ("pass", "it said nothing"),
}


@pytest.mark.parametrize(("body", "reason"), BROKEN.values(), ids=BROKEN)
def test_what_does_not_open_is_a_rows_reason(
    tiny: System, answers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, reason: str
) -> None:
    first, second = list(OPENERS)[:2]
    monkeypatch.setattr(manners, "OPENERS", {name: OPENERS[name] for name in (first, second)})
    body = f"if told['tool'] == {first!r}:\n    {body}\nelse:\n    RIGHT; say(version='1')"
    seconds = 1.0 if "sleep" in body else 60.0
    broken, right = manners.check_manners(tiny.bundle, fake(tmp_path, body, answers), seconds)
    assert (broken.opens, broken.same, broken.max_abs, broken.reason) == (False, None, None, reason)
    # The answer of the one before is not the next one's.
    assert (right.opens, right.same) == (True, True), right


WRONG = {
    "perturbed": (
        "x = np.load(told['answer']); np.save(told['answer'], x + 3e-5 * (np.arange(x.size) == 7).reshape(x.shape))",
        EMBEDDINGS,
        "an embedding differs from the runtime's by 3e-05; at most 1e-05",
    ),
    "another order": ("np.save(told['answer'], np.load(told['answer'])[::-1])", EMBEDDINGS, "an embedding differs"),
    "NaN": ("np.save(told['answer'], np.load(told['answer']) * np.nan)", EMBEDDINGS, "not finite"),
    "a text less": ("np.save(told['answer'], np.load(told['answer'])[1:])", EMBEDDINGS, "its answer has shape (3, "),
    "words of a neighbour": ("np.save(told['answer'], np.load(told['answer'])[::-1])", MASKS, "score differs"),
    "words a little off": ("np.save(told['answer'], np.load(told['answer']) + 2e-3)", MASKS, "score differs"),
    "NaN in words": ("np.save(told['answer'], np.load(told['answer']) * np.nan)", MASKS, "not finite"),
    "too few words": (
        "np.save(told['answer'], np.load(told['answer'])[:, :10])",
        MASKS,
        "its answer has shape (3, 10)",
    ),
}


@pytest.mark.parametrize(("spoil", "kind", "reason"), WRONG.values(), ids=WRONG)
def test_other_numbers_are_not_the_same(
    tiny: System, answers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str, kind: str, reason: str
) -> None:
    opener = next(each for each in OPENERS.values() if each.kind == kind)
    monkeypatch.setattr(manners, "OPENERS", {opener.tool: opener})
    python = fake(tmp_path, f"RIGHT; {spoil}; say(version='1')", answers)
    (manner,) = manners.check_manners(tiny.bundle, python)
    assert (manner.opens, manner.same) == (True, False)
    assert reason in manner.reason


def test_a_package_that_is_not_there_is_no_fault(tiny: System, answers: Path, tmp_path: Path) -> None:
    found = manners.check_manners(tiny.bundle, fake(tmp_path, "say(missing='optimum-onnx')", answers))
    assert {(manner.opens, manner.reason) for manner in found} == {
        (None, "optimum-onnx is not installed there; set it up with: make peers")
    }


def test_without_the_environment_every_row_says_how_to_make_it(tiny: System, tmp_path: Path) -> None:
    found = manners.check_manners(tiny.bundle, None)
    assert [manner.tool for manner in found] == list(OPENERS)
    assert all(manner.opens is None and "make peers" in manner.reason for manner in found)
    with pytest.raises(PeerError, match=r"no Python at .*/nowhere; set it up with: make peers"):
        manners.check_manners(tiny.bundle, tmp_path / "nowhere")


def test_bundles_without_texts_or_without_fp32(tiny_copy: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="There is no bundle at"):
        manners.check_manners(tmp_path / "nothing", None)
    manifest = tiny_copy / "manifest.json"
    whole = manifest.read_text(encoding="utf-8")
    edit_json(manifest, lambda data: [each.update(precision="int8") for each in data["text"]["artifacts"]])
    with pytest.raises(PeerError, match="has no embedding graph in fp32 to compare with"):
        manners.check_manners(tiny_copy, None)
    manifest.write_text(whole, encoding="utf-8")
    edit_json(manifest, lambda data: data.update(text=None))
    assert manners.check_manners(tiny_copy, None) == []


def test_the_command_line(tiny: System, answers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    manners.add_options(parser)
    right = fake(tmp_path, "RIGHT; say(version='9.9')", answers)
    assert manners.run(parser.parse_args([str(tiny.bundle), "--python", str(right)])) == 0
    printed = capsys.readouterr().out
    assert printed.count("opens, the same numbers") == len(OPENERS)
    fake(tmp_path, "say(version='9.9', error='KeyError: no')", answers)
    assert manners.run(parser.parse_args([str(tiny.bundle), "--python", str(right), "--json"])) == 1
    assert {each["reason"] for each in json.loads(capsys.readouterr().out)} == {"KeyError: no"}


NEEDED = {
    "optimum OV": "optimum.intel",
    "optimum ORT": "optimum.onnxruntime",
    "sentence": "optimum.onnxruntime",
    "fastembed": "fastembed",
}


@pytest.mark.parametrize("tool", OPENERS)
def test_the_tool_itself_opens_the_bundle(tiny: System, monkeypatch: pytest.MonkeyPatch, tool: str) -> None:
    """In this environment, or in that of CXR_PEERS_PYTHON."""
    from bench.measuring.entry import peers_python

    peers = peers_python()
    module = next(needed for start, needed in NEEDED.items() if tool.startswith(start))
    if not peers and not _importable(module):
        pytest.skip(f"{module} is not installed here, and there is no environment of its own (make peers)")
    monkeypatch.setattr(manners, "OPENERS", {tool: OPENERS[tool]})
    (manner,) = manners.check_manners(tiny.bundle, Path(peers) if peers else HERE)
    if manner.opens is None:
        pytest.skip(manner.reason)
    assert (manner.opens, manner.same) == (True, True), manner
    assert manner.version


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package that it lies in
        return False
