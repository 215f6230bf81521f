"""Token ids of CLIP's and BiomedCLIP's texts against upstream's own tokenizers, with the true vocabulary.

open_clip's package brings CLIP's vocabulary. Followed are transformers' CLIPTokenizer of version 5, which is version
4's CLIPTokenizerFast, and open_clip's SimpleTokenizer and HFTokenizer. (Version 4's slow CLIPTokenizer mends texts by
ftfy where that is installed, and else splits them as BERT does.)
"""

from __future__ import annotations

import csv
import json
import shutil
import unicodedata
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.checkpoints.bpe import write_bpe_tokenizer, write_hub_files
from export.checkpoints.tokenizer import write_tokenizer
from export.samples import SENTENCES
from runtime.bundle.parts import CUT, Tokenization
from runtime.engines import Sessions
from runtime.errors import BundleError, InputError
from runtime.text import TextEncoder, Tokenizer
from tests.runtime.parts import text_part
from tests.runtime.text.test_cleaning import CASES

BLOCKS = ((0x01, 0x600), (0x1E00, 0x2C00), (0x3000, 0x3100), (0x4E00, 0x4E40), (0xFF00, 0xFFF0), (0x1F300, 0x1F600))
CHARACTERS = [chr(code) for start, end in BLOCKS for code in range(start, end)]
TEXTS = [
    *SENTENCES,
    *CASES,
    "ΠΝΕΥΜΟΝΙΑΣ, ΣΑΣ'Σ. ʰΣ αʰΣʰ. Σ",
    "it'ſ İstanbul aͅb 'ͅ",
    "Can't, WE'VE, I'll, he'd; y'all's '' 's''s",
    "<|startoftext|x> <start> |endoftext|",
    "word " * 75,
    "word " * 76,
    "word " * 400,
]


@dataclass(frozen=True)
class Pair:
    """The bundle's tokenizer and upstream's, which cuts as it does and whose padding is taken off."""

    ours: Tokenizer
    upstream: Callable[[list[str]], list[list[int]]]

    def differing(self, texts: list[str]) -> list[str]:
        rows, faults = self.ours.try_encode(texts)
        assert not faults
        return [text for text, row, other in zip(texts, rows, self.upstream(texts), strict=True) if row != other]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vocab.json and merges.txt of the published models."""
    folder = tmp_path_factory.mktemp("hub")
    write_hub_files(folder)
    return folder


@pytest.fixture(scope="module")
def clip(hub: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    from transformers import CLIPTokenizerFast

    folder = tmp_path_factory.mktemp("clip")
    write_bpe_tokenizer(hub, folder, longest=77, source="transformers")
    upstream = CLIPTokenizerFast.from_pretrained(str(hub))
    rules = Tokenization("bpe", 77, CUT, "none", {}, None)
    return Pair(Tokenizer(folder, rules), lambda texts: upstream(texts, truncation=True, max_length=77)["input_ids"])


@pytest.fixture(scope="module")
def open_clip(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    from open_clip.tokenizer import SimpleTokenizer

    folder = tmp_path_factory.mktemp("open-clip")
    write_bpe_tokenizer(folder, folder, longest=77, source="open_clip")
    upstream = SimpleTokenizer()

    def encode(texts: list[str]) -> list[list[int]]:
        return [row[: row.index(49407) + 1] for row in upstream(texts).tolist()]

    return Pair(Tokenizer(folder, Tokenization("bpe", 77, CUT, "ftfy", {}, None)), encode)


@pytest.fixture(scope="module")
def biomedclip(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """BiomedCLIP's tokenizer: a BERT's behind open_clip's cleaning; 64 tokens instead of 256, so that texts are cut."""
    from open_clip.tokenizer import HFTokenizer

    checkpoint, folder = tmp_path_factory.mktemp("checkpoint"), tmp_path_factory.mktemp("biomedclip")
    shutil.copy(shared_data / "tokenizer" / "vocab.txt", checkpoint)
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings))
    shutil.copy(shared_data / "tokenizer" / "config.json", checkpoint)
    write_tokenizer(checkpoint, json.loads((checkpoint / "config.json").read_text()), folder, longest=64)
    upstream = HFTokenizer(str(checkpoint), context_length=64)

    def encode(texts: list[str]) -> list[list[int]]:
        return [[token for token in row if token] for row in upstream(texts).tolist()]

    return Pair(Tokenizer(folder, Tokenization("wordpiece", 64, CUT, "ftfy", {}, None)), encode)


@pytest.fixture(params=["clip", "open_clip", "biomedclip"])
def pair(request: pytest.FixtureRequest) -> Pair:
    found: Pair = request.getfixturevalue(request.param)
    return found


def test_sentences(pair: Pair) -> None:
    assert pair.differing(TEXTS) == []
    assert {len(row) for row in pair.ours.encode(["word " * 400, ""])} == {pair.ours.max_length, 2}


def test_characters_of_many_scripts(pair: Pair) -> None:
    assigned = [each for each in CHARACTERS if unicodedata.category(each) != "Cn"]
    assert len(assigned) > 5000
    assert pair.differing([f"heart{each}size '{each} {each}.Σ{each} Σ" for each in assigned]) == []


@settings(max_examples=300, deadline=None)
@given(text=st.lists(st.one_of(st.sampled_from(CHARACTERS), st.sampled_from(TEXTS), st.text(max_size=4))).map("".join))
def test_any_text(clip: Pair, open_clip: Pair, text: str) -> None:
    if all(unicodedata.category(each) != "Cn" for each in text):  # the tables of Unicode are of several years
        assert clip.differing([text]) == open_clip.differing([text]) == []


def test_clinical_notes(pair: Pair, shared_data: Path) -> None:
    with (shared_data / "reports" / "chexpert_sample_reports.csv").open(newline="", encoding="utf-8") as lines:
        notes = [cell for row in csv.reader(lines) for cell in row]
    with (shared_data / "reports" / "mts_dialog_section_text.jsonl").open(encoding="utf-8") as lines:
        notes += [value for line in lines for value in json.loads(line).values() if isinstance(value, str)]
    assert len(notes) > 1000
    assert pair.differing(notes) == []
    assert any(len(row) == pair.ours.max_length for row in pair.ours.encode(notes)), "some are cut"


def test_another_rule_would_differ(clip: Pair, open_clip: Pair, biomedclip: Pair) -> None:
    """The negative control: each tokenizer against upstream's of another system."""
    quotes = ["the patient’s effusion", "&lt; 2 cm"]
    assert Pair(clip.ours, open_clip.upstream).differing(quotes) == quotes
    assert Pair(open_clip.ours, clip.upstream).differing(quotes) == quotes
    plain = changed(biomedclip.ours, _rules=replace(biomedclip.ours._rules, cleaning="none"))
    assert Pair(plain, biomedclip.upstream).differing(quotes) == quotes
    cut = ["word " * 400]
    assert Pair(changed(clip.ours, max_length=78), clip.upstream).differing(cut) == cut


def changed(tokenizer: Tokenizer, **attributes: object) -> Tokenizer:
    """A copy with other rules."""
    other = copy(tokenizer)
    other.__dict__.update(attributes)
    return other


def test_cut_texts_are_counted(clip: Pair) -> None:
    found: list[tuple[int, int]] = []
    clip.ours.try_encode(["short", "word " * 76], on_cut=lambda index, tokens: found.append((index, tokens)))
    assert found == [(1, 78)]


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("no <|endoftext|> effusion", "<|endoftext|>"),
        ("<|startoftext|>", "<|startoftext|>"),
        ("no <|EndOfText|>", "<|endoftext|>"),
    ],
)
def test_the_ends_may_not_be_written(clip: Pair, text: str, token: str) -> None:
    """transformers would take the state at the first of them for the whole text's."""
    with pytest.raises(InputError) as caught:
        clip.ours.encode(["fine", text])
    assert f"contains the special token {token}; none may be written in a text" in str(caught.value)
    assert [fault.index for fault in caught.value.faults] == [1]


@pytest.mark.parametrize(
    "text", ["no <end_of_text>", "<START_OF_TEXT>", "&lt;end_of_text&gt;", "&amp;lt;end_of_text&gt;"]
)
def test_open_clips_own_ends_may_not_be_written(open_clip: Pair, text: str) -> None:
    """Those of transformers are plain text there, as upstream; also what cleaning makes of entities is looked at."""
    with pytest.raises(InputError, match=r"special token <(start|end)_of_text>"):
        open_clip.ours.encode([text])
    assert open_clip.differing(["no <|endoftext|> effusion"]) == []


def test_word_pieces_keep_their_rule(biomedclip: Pair) -> None:
    with pytest.raises(InputError, match=r"special token \[SEP\]; only \[MASK\] may be written"):
        biomedclip.ours.encode(["no &#91;SEP&#93; effusion"])
    assert biomedclip.differing(["no [MASK] effusion"]) == []


def test_there_is_no_mask(clip: Pair, biomedclip: Pair) -> None:
    assert (clip.ours.mask_token_id, clip.ours.pad_token_id, clip.ours.special_ids) == (None, 49407, {49406, 49407})
    with pytest.raises(BundleError, match="cannot fill masks: its tokenizer has no token that stands for one"):
        clip.ours.required_mask()
    assert biomedclip.ours.required_mask() == 4
    text = TextEncoder(text_part(), Sessions(lambda streams: object(), 1), clip.ours, token_budget=64)
    for ask in (text.fill_mask, text.predict_masked_tokens, text.masked_token_accuracy):
        with pytest.raises(BundleError, match="cannot fill masks: its tokenizer"):
            ask(["no effusion"])
