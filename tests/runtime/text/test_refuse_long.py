"""Texts beyond a system's longest input: cut and counted where the system cuts, or refused where the caller asks."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime.__main__ import main
from runtime.bundle import open_bundle
from runtime.errors import InputError
from runtime.text import Tokenizer
from tests.conftest import edit_json

LONGEST = 12
LONG, SHORT = "left pleural effusion " * 8, "no pleural effusion"


@pytest.fixture
def cutting(tiny_copy: Path) -> Path:
    """A bundle that reads 12 tokens and cuts longer texts."""
    edit_json(
        tiny_copy / "manifest.json",
        lambda data: data["text"]["tokenization"].update(too_long="cut", max_length=LONGEST),
    )
    return tiny_copy


def test_a_text_that_would_be_cut_is_refused(cutting: Path) -> None:
    cut, strict = (
        runtime.load(cutting, "cpu", parts="text", refuse_long=refuse, text_cache=0).text for refuse in (False, True)
    )
    assert cut.encode([SHORT, LONG]).shape == (2, cut.embedding_size)
    assert cut.notices.counts() == {f"more than {LONGEST} tokens, cut there as the system does": 1}
    with pytest.raises(InputError, match=rf"1 of 2 texts[\s\S]*\d\d tokens, but the model reads at most {LONGEST}"):
        strict.encode([SHORT, LONG])
    assert strict.notices.counts() == {}
    assert np.array_equal(strict.encode(SHORT), cut.encode(SHORT))
    with pytest.raises(InputError, match="at most"):
        pickle.loads(pickle.dumps(strict)).encode(LONG)


def test_a_cut_text_keeps_the_tokens_at_its_ends(cutting: Path) -> None:
    """As transformers' truncation does, which leaves room for them."""
    from transformers import BertTokenizer

    tokenizer = Tokenizer(cutting / "text", open_bundle(cutting).text_part().tokenization)
    reference = BertTokenizer.from_pretrained(str(cutting / "text"))
    expected = reference([LONG], truncation=True, max_length=LONGEST)["input_ids"]
    assert tokenizer.encode([LONG]) == expected
    assert tokenizer.encode([LONG])[0] != reference([LONG])["input_ids"][0][:LONGEST]


def test_commands(cutting: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts.txt").write_text(f"{SHORT}\n{LONG}\n")
    asked = ["embed", str(cutting), str(tmp_path / "texts.txt"), "--provider", "cpu"]
    assert main([*asked, "--out", str(tmp_path / "cut.npy")]) == 0
    assert np.load(tmp_path / "cut.npy").shape[0] == 2
    assert main([*asked, "--out", str(tmp_path / "strict.npy"), "--refuse-long"]) == 1
    assert f"the model reads at most {LONGEST}" in capsys.readouterr().err
    assert not (tmp_path / "strict.npy").exists()
    skipping = [*asked, "--out", str(tmp_path / "kept.npy"), "--refuse-long", "--skip-bad"]
    assert main([*skipping, "--rejects", str(tmp_path / "_rejects.jsonl")]) == 0
    assert np.load(tmp_path / "kept.npy").shape[0] == 1
    assert f"at most {LONGEST}" in (tmp_path / "_rejects.jsonl").read_text()


def test_a_run_into_a_folder_is_not_resumed_the_other_way(
    cutting: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text(f"{SHORT}\n{LONG}\n")
    asked = ["embed", str(cutting), str(tmp_path / "texts.txt"), "--provider", "cpu", "--out", str(tmp_path / "run")]
    assert main([*asked, "--refuse-long"]) == 0
    assert main([*asked, "--resume"]) == 1
    assert "refuse_long" in capsys.readouterr().err
    assert len((tmp_path / "run" / "_rejects.jsonl").read_text().splitlines()) == 1
