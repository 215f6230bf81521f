"""Token ids against transformers' tokenizers, and the reference's rules for prompts."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from export.samples import SENTENCES
from runtime.errors import InputError
from runtime.text import Tokenizer
from tests.conftest import System
from tests.runtime.parts import tokenization


@pytest.fixture(scope="module")
def tokenizer(tiny: System) -> Tokenizer:
    return Tokenizer(tiny.bundle / "text", tokenization())


def slow_tokenizer(folder: Path):
    """The tokenizer in pure Python that the reference used on transformers 4."""
    try:
        from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy
    except ImportError:
        from transformers import BertTokenizer

        return BertTokenizer.from_pretrained(str(folder))
    return BertTokenizerLegacy.from_pretrained(str(folder))


def test_sentences_have_the_ids_of_both_reference_tokenizers(tokenizer: Tokenizer, tiny: System) -> None:
    from tests.oracle import reference_tokenizer

    for reference in (reference_tokenizer(tiny.checkpoint), slow_tokenizer(tiny.checkpoint)):
        expected = [list(reference(text.rstrip("!?."))["input_ids"]) for text in SENTENCES]
        assert tokenizer.encode(SENTENCES) == expected
    assert len({tuple(ids) for ids in expected}) > 30


def test_characters_of_many_scripts(tmp_path: Path, shared_data: Path) -> None:
    """Every assigned character of the blocks that occur in reports, between words of the real vocabulary."""
    import json

    from export.checkpoints.tokenizer import write_tokenizer

    folder = shared_data / "tokenizer"
    write_tokenizer(folder, json.loads((folder / "config.json").read_text()), tmp_path)
    tokenizer, reference = Tokenizer(tmp_path, tokenization()), slow_tokenizer(folder)
    blocks = ((0x01, 0x600), (0x1E00, 0x2C00), (0x3000, 0x3100), (0x4E00, 0x4E40), (0xFF00, 0xFFF0), (0x1F300, 0x1F600))
    characters = [chr(code) for start, end in blocks for code in range(start, end)]
    texts = [f"heart{each}size {each}" for each in characters if unicodedata.category(each) != "Cn"]
    assert len(texts) > 5000
    differing = [
        text
        for text, ids in zip(texts, tokenizer.encode(texts), strict=True)
        if ids != list(reference(text.rstrip("!?."))["input_ids"])
    ]
    assert differing == []


def test_trailing_punctuation_is_stripped_as_in_the_reference(tokenizer: Tokenizer) -> None:
    plain, marked, inner = tokenizer.encode(["no effusion", "no effusion?!..", "no. effusion. "])
    assert marked == plain
    assert inner != plain, "only the very end is stripped, not before a space"


def test_mask_is_allowed_and_is_one_token(tokenizer: Tokenizer) -> None:
    (ids,) = tokenizer.encode(["no [MASK]"])
    assert ids.count(4) == 1


@pytest.mark.parametrize("token", ["[CLS]", "[SEP]", "[PAD]", "[UNK]"])
def test_other_special_tokens_raise(tokenizer: Tokenizer, token: str) -> None:
    with pytest.raises(InputError, match=r"\[1\] .*special token") as caught:
        tokenizer.encode(["fine", f"not {token} fine"])
    assert token in str(caught.value)
    assert [fault.index for fault in caught.value.faults] == [1]


def test_over_512_tokens_raise_and_are_never_cut(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode(["1 " * 510])[0]) == 512
    with pytest.raises(InputError, match=r"513 tokens.*at most 512"):
        tokenizer.encode(["1 " * 511])


def test_all_bad_texts_are_listed_together(tokenizer: Tokenizer) -> None:
    texts = ["fine", 3.5, "x [SEP]", None, "1 " * 600, "half \ud800 pair"]
    with pytest.raises(InputError, match="5 of 6 texts") as caught:
        tokenizer.encode(texts)  # type: ignore[arg-type]
    assert [fault.index for fault in caught.value.faults] == [1, 2, 3, 4, 5]
    for part in ("float", "[SEP]", "NoneType", "602 tokens", "surrogate"):
        assert part in str(caught.value)


def test_an_empty_list_raises_and_an_empty_text_does_not(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="empty"):
        tokenizer.encode([])
    assert tokenizer.encode([""]) == [[2, 3]]
