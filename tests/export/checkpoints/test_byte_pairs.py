"""CLIP's tokenizer files as the hub has them: the bundle's token ids are those of transformers' CLIPTokenizer."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, CLIPTokenizer

from export.checkpoints.bpe import open_clip_byte_pairs, read_byte_pairs, write_bpe_tokenizer, write_hub_files
from export.checkpoints.bpe.tokenizer_json import HUB_WORDS
from export.errors import CheckpointError
from export.families import TextAxes
from export.proof.input_parity import token_parity
from export.samples import SENTENCES
from runtime.bundle.parts import CUT, Tokenization
from runtime.text import Tokenizer
from tests.conftest import edit_json

CONFIG = {"vocab_size": 814, "eos_token_id": 2}
AXES = TextAxes(Tokenization("bpe", 77, CUT, "none", {}, None), "eos", "linear")
OPEN_CLIP = TextAxes(Tokenization("bpe", 77, CUT, "ftfy", {}, None), "eos", "linear")
TEXTS = [*SENTENCES, "Wow! It's <findings> clear<findings>.", "LUNGS " * 80]
NAMES = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The files of a small CLIP as version 4's slow tokenizer has them: OpenAI's first 300 merges."""
    folder = tmp_path / "files"
    folder.mkdir()
    write_hub_files(folder, merges=300)
    return folder


def written(folder: Path, text_config: dict[str, Any] | None = None) -> tuple[Tokenizer, Path]:
    """The bundle's tokenizer, and its folder."""
    out = folder.parent / "out"
    out.mkdir(exist_ok=True)
    names = write_bpe_tokenizer(folder, out, longest=77, source="transformers", text_config=text_config)
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    return Tokenizer(out, AXES.tokenization), out


def ids(tokenizer: CLIPTokenizer) -> list[list[int]]:
    found: list[list[int]] = tokenizer(TEXTS, truncation=True, max_length=77)["input_ids"]
    return found


def as_version_4(folder: Path) -> None:
    """tokenizer.json beside the other files, its words found as version 4 wrote it, its merges as texts."""
    CLIPTokenizer.from_pretrained(str(folder)).backend_tokenizer.save(str(folder / "tokenizer.json"))

    def change(whole: dict[str, Any]) -> None:
        pattern = whole["pre_tokenizer"]["pretokenizers"][0]["pattern"]
        assert pattern["Regex"] == HUB_WORDS
        pattern["Regex"] = HUB_WORDS.split("|>|")[-1]
        whole["model"]["merges"] = [" ".join(pair) for pair in whole["model"]["merges"]]

    edit_json(folder / "tokenizer.json", change)


def as_version_5(folder: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(str(folder))
    for name in NAMES:
        (folder / name).unlink()
    tokenizer.save_pretrained(folder)
    assert not (folder / "vocab.json").exists()


@pytest.mark.parametrize("saved", [lambda folder: None, as_version_4, as_version_5])
def test_what_transformers_saves(files: Path, saved: Callable[[Path], None]) -> None:
    expected = ids(CLIPTokenizer.from_pretrained(str(files)))
    saved(files)
    assert ids(CLIPTokenizer.from_pretrained(str(files))) == expected
    tokenizer, out = written(files, CONFIG)
    assert tokenizer.encode(TEXTS) == expected
    assert token_parity(tokenizer, files, AXES).figures == {"differing": 0.0}
    for opened in (CLIPTokenizer.from_pretrained(str(out)), AutoTokenizer.from_pretrained(str(out))):
        assert isinstance(opened, CLIPTokenizer)
        assert ids(opened) == expected
        assert (opened.model_max_length, opened.pad_token) == (77, "<|endoftext|>")


def test_the_small_clip_of_the_tests(tmp_path: Path) -> None:
    from tests.trained.models import clip

    folder = tmp_path / "small"
    folder.mkdir()
    upstream = clip._write_tokenizer(folder)
    tokenizer, _ = written(folder, {"vocab_size": len(upstream), "eos_token_id": 2})
    assert tokenizer.encode(TEXTS) == ids(upstream)
    assert token_parity(tokenizer, folder, AXES).figures == {"differing": 0.0}


def test_a_model_that_is_padded_with_a_word(files: Path) -> None:
    """transformers then finds "!" in a text as a special token, another one than the word."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        edit_json(files / name, lambda data: data.update(pad_token="!"))
    upstream = CLIPTokenizer.from_pretrained(str(files))
    tokenizer, _ = written(files, CONFIG)
    assert tokenizer.pad_token_id == upstream.pad_token_id == 0
    assert tokenizer.encode(TEXTS) == ids(upstream)
    assert tokenizer.encode(["wow!"])[0][-2] == 0


def test_tokens_added_for_fine_tuning(files: Path) -> None:
    upstream = CLIPTokenizer.from_pretrained(str(files))
    upstream.add_tokens(["<findings>"])
    upstream.save_pretrained(files)
    for name in NAMES[:2]:
        (files / name).unlink()
    tokenizer, _ = written(files, {"vocab_size": 815, "eos_token_id": 813})
    assert tokenizer.encode(TEXTS) == ids(upstream)
    assert any(814 in row for row in tokenizer.encode(TEXTS))
    assert token_parity(tokenizer, files, AXES).figures == {"differing": 0.0}
    with pytest.raises(CheckpointError, match=r"largest id for a text's end.*'<\|endoftext\|>' has 813 of 815"):
        read_byte_pairs(files, {"vocab_size": 815, "eos_token_id": 2})


DAMAGES: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    r"special tokens '<\|endoftext\|>' are not in the vocabulary": (
        "vocab.json",
        lambda data: data.pop("<|endoftext|>"),
    ),
    r"lacks 1 of the 512 letters, such as 'Ġ</w>'": ("vocab.json", lambda data: data.pop("Ġ</w>")),
    r"merges have 'th', which the vocabulary lacks": ("vocab.json", lambda data: data.pop("th")),
    r"ids are not the numbers from 0 to 813": ("vocab.json", lambda data: data.update(th=5)),
    r"eos_token is '<\|endoftext\|>' in tokenizer_config.json, '<\|end\|>' in special": (
        "special_tokens_map.json",
        lambda data: data.update(eos_token="<|end|>"),
    ),
    r"ids of the vocabulary are not whole numbers": ("vocab.json", lambda data: data.update(th="5")),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_damaged_files(files: Path, message: str) -> None:
    name, change = DAMAGES[message]
    edit_json(files / name, change)
    with pytest.raises(CheckpointError, match=message):
        read_byte_pairs(files)


WHOLE: dict[str, Callable[[dict[str, Any]], object]] = {
    "type 'WordPiece'; CLIP's 'BPE' is expected": lambda whole: whole["model"].update(type="WordPiece"),
    r"model.end_of_word_suffix='' \('</w>' expected\)": lambda whole: whole["model"].update(end_of_word_suffix=""),
    "normalizer=.*'NFKC'": lambda whole: whole["normalizer"]["normalizers"][0].update(type="NFKC"),
    "pre_tokenizer=.*'ByteLevel'": lambda whole: whole.update(pre_tokenizer={"type": "ByteLevel"}),
    r"post_processor=\[\('<\|startoftext\|>', 812\), \('<\|startoftext\|>', 812\)\]": lambda whole: whole[
        "post_processor"
    ].update(sep=["<|startoftext|>", 812]),
    "vocab.json and tokenizer.json have other ids for 'an', 'th'": lambda whole: whole["model"]["vocab"].update(
        th=whole["model"]["vocab"]["an"], an=whole["model"]["vocab"]["th"]
    ),
    "merges.txt and tokenizer.json have other merges": lambda whole: whole["model"]["merges"].reverse(),
}


@pytest.mark.parametrize("message", WHOLE)
def test_another_tokenizer_or_one_that_the_other_files_contradict(files: Path, message: str) -> None:
    as_version_4(files)
    read_byte_pairs(files)
    edit_json(files / "tokenizer.json", WHOLE[message])
    with pytest.raises(CheckpointError, match=message):
        read_byte_pairs(files)


def test_faults_are_listed_together(files: Path) -> None:
    edit_json(files / "vocab.json", lambda data: data.pop("th"))
    edit_json(files / "special_tokens_map.json", lambda data: data.update(unk_token="<|unknown|>"))
    with pytest.raises(CheckpointError, match=r"unk_token is .*; merges have 'th'.*; the tokens' ids"):
        read_byte_pairs(files)


def test_merges_that_are_none(files: Path) -> None:
    (files / "merges.txt").write_text("#version: 0.2\ni n\nt h e\n")
    with pytest.raises(CheckpointError, match="'t h e', its merge 2, is not two parts"):
        read_byte_pairs(files)
    (files / "merges.txt").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer.json, or vocab.json and merges.txt, are expected"):
        read_byte_pairs(files)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"vocab_size": 49408}, "it has 814 tokens, but config.json says vocab_size=49,408"),
        ({}, "vocab_size=49,408"),
        ({"vocab_size": 814, "eos_token_id": 49407}, "has id 813, but config.json says eos_token_id=49407"),
    ],
)
def test_a_model_of_another_size(files: Path, config: dict[str, int], message: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(message)):
        read_byte_pairs(files, config)


def test_open_clips_vocabulary_is_its_own() -> None:
    from open_clip.tokenizer import SimpleTokenizer

    upstream = SimpleTokenizer()
    files = open_clip_byte_pairs()
    assert files.tokens == upstream.encoder
    assert list(files.merges) == list(upstream.bpe_ranks)


def test_a_folder_of_open_clip(files: Path, tmp_path: Path) -> None:
    """It need bring no tokenizer, and must bring no other one: open_clip would not read it."""
    for name in ("empty", "full", "out"):
        (tmp_path / name).mkdir()
    write_hub_files(tmp_path / "full")
    for folder in ("empty", "full"):
        write_bpe_tokenizer(tmp_path / folder, tmp_path / "out", longest=77, source="open_clip")
        tokenizer = Tokenizer(tmp_path / "out", OPEN_CLIP.tokenization)
        assert token_parity(tokenizer, tmp_path / folder, OPEN_CLIP).figures == {"differing": 0.0}
    opened = AutoTokenizer.from_pretrained(str(tmp_path / "out"))
    assert isinstance(opened, CLIPTokenizer)
    assert opened("Small effusion.")["input_ids"] == tokenizer.encode(["Small effusion."])[0]
    with pytest.raises(CheckpointError, match="brings a tokenizer of another vocabulary than open_clip's"):
        write_bpe_tokenizer(files, tmp_path / "out", longest=77, source="open_clip")
    with pytest.raises(CheckpointError, match=r"the model has 814 tokens, open_clip's tokenizer.* 49,408"):
        write_bpe_tokenizer(
            tmp_path / "empty", tmp_path / "out", longest=77, source="open_clip", text_config={"vocab_size": 814}
        )


def test_token_parity_finds_what_differs(files: Path, tmp_path: Path) -> None:
    """The negative control, for each reference."""
    tokenizer, out = written(files)
    edit_json(out / "tokenizer.json", lambda whole: whole["normalizer"]["normalizers"].pop())
    capitals = Tokenizer(out, AXES.tokenization)
    assert token_parity(tokenizer, files, AXES).figures == {"differing": 0.0}
    assert token_parity(capitals, files, AXES).figures["differing"] > len(SENTENCES) / 2

    (tmp_path / "open").mkdir()
    write_bpe_tokenizer(tmp_path, tmp_path / "open", longest=77, source="open_clip")
    unmended = Tokenizer(tmp_path / "open", replace(OPEN_CLIP.tokenization, cleaning="none"))
    found = token_parity(unmended, tmp_path, OPEN_CLIP).figures["differing"]
    assert 3 < found < len(SENTENCES) / 2
    longer = Tokenizer(tmp_path / "open", replace(OPEN_CLIP.tokenization, max_length=78))
    assert token_parity(longer, tmp_path, OPEN_CLIP).figures == {"differing": 1.0}


def test_token_parity_of_biomedclip(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """A BERT's tokenizer behind open_clip's cleaning; code that the settings name is not run."""
    from export.checkpoints.tokenizer import write_tokenizer
    from tests.conftest import tiny_config

    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    for name in ("vocab.txt", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(tiny_checkpoint / name, checkpoint)
    code = {"AutoTokenizer": ["harmful.Tokenizer", None]}
    edit_json(checkpoint / "tokenizer_config.json", lambda data: data.update(auto_map=code))
    (checkpoint / "harmful.py").write_text("raise SystemExit('was run')")
    write_tokenizer(checkpoint, tiny_config(), tmp_path, longest=40)
    rules = Tokenization("wordpiece", 40, CUT, "ftfy", {}, None)
    axes = TextAxes(rules, "cls", "mlp")
    record = token_parity(Tokenizer(tmp_path, rules), checkpoint, axes)
    assert (record.reference, record.figures) == ("open_clip HFTokenizer", {"differing": 0.0})
    assert "auto_map" in json.loads((checkpoint / "tokenizer_config.json").read_text())
    unmended = Tokenizer(tmp_path, replace(rules, cleaning="none"))
    assert token_parity(unmended, checkpoint, axes).figures["differing"] > 2
