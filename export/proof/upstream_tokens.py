"""Upstream's tokenizers: of each kind and cleaning the class that a user without this project runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, NamedTuple

from export.checkpoints.added_tokens import SETTINGS
from export.checkpoints.signatures import read_json
from export.checkpoints.tokenizer import write_json
from export.checkpoints.vocabulary import TOKENIZER_FILES
from export.families import TextAxes
from runtime.bundle.parts import BYTE_PAIRS, CUT, FTFY, NO_CLEANING, SENTENCES, STRIP_PUNCTUATION, WORD_PIECES
from runtime.text.cleaning import words_of_sentences

__all__ = ["UpstreamTokenizer", "upstream_tokenizers"]

# What is done to texts where upstream's tokenizer does not do it. No class of GLoRIA's can be installed: how its rules
# are followed is compared in tests/runtime/text/test_cleaning.py.
_CLEANED: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {STRIP_PUNCTUATION: lambda text: text.rstrip("!?."), SENTENCES: words_of_sentences}
)


class UpstreamTokenizer(NamedTuple):
    """A tokenizer of upstream's.

    Attributes:
        name: of its package and class.
        encode: texts, as they come → token ids, cleaned and cut as upstream does, unpadded.
        added: tokens that it finds whole.
    """

    name: str
    encode: Callable[[list[str]], list[list[int]]]
    added: Sequence[str] = ()


def upstream_tokenizers(checkpoint: Path, axes: TextAxes) -> list[UpstreamTokenizer]:
    """Those that read a checkpoint's own files; of two the first is what its users take.

    transformers' BertTokenizer where there is a vocab.txt, and where there is a tokenizer.json the class that reads
    that alone; transformers' CLIPTokenizer; for texts that ftfy mends open_clip's SimpleTokenizer, which reads no file,
    or its HFTokenizer.

    Args:
        checkpoint: folder with its files.
        axes: how texts are cleaned, cut and cased.
    """
    from transformers.utils import logging

    rules = axes.tokenization
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns about the class name in the hub's own file
    try:
        found = _UPSTREAM[rules.tokenizer, rules.cleaning](checkpoint, axes)
    finally:
        logging.set_verbosity(level)
    return [each._replace(encode=_prepared(each.encode, axes)) for each in found]


def _prepared(encode: Callable[[list[str]], list[list[int]]], axes: TextAxes) -> Callable[[list[str]], list[list[int]]]:
    clean = _CLEANED.get(axes.tokenization.cleaning, str)
    lower = str.lower if axes.lowercase_before else str

    def prepared(texts: list[str]) -> list[list[int]]:
        return encode([lower(clean(text)) for text in texts])

    return prepared


def _transformers(tokenizer: Any, axes: TextAxes) -> UpstreamTokenizer:
    rules = axes.tokenization
    options = {"truncation": True, "max_length": rules.max_length} if rules.too_long == CUT else {}

    def encode(texts: list[str]) -> list[list[int]]:
        found: list[list[int]] = tokenizer(texts, **options)["input_ids"]
        return found

    return UpstreamTokenizer(f"transformers {type(tokenizer).__name__}", encode, list(tokenizer.get_added_vocab()))


def _bert(checkpoint: Path, axes: TextAxes) -> list[UpstreamTokenizer]:
    from transformers import BertTokenizer, PreTrainedTokenizerFast

    found = []
    if (checkpoint / "vocab.txt").is_file():
        casing = {} if axes.lowercase is None else {"do_lower_case": axes.lowercase}
        found.append(_transformers(BertTokenizer.from_pretrained(str(checkpoint), **casing), axes))
    if (checkpoint / "tokenizer.json").is_file() and axes.lowercase is None:
        whole = PreTrainedTokenizerFast(tokenizer_file=str(checkpoint / "tokenizer.json"))
        found.append(_transformers(whole, axes))
    return found


def _clip(checkpoint: Path, axes: TextAxes) -> list[UpstreamTokenizer]:
    # The only class of version 5, where both names are one; version 4's other one mends texts where ftfy is installed.
    from transformers import CLIPTokenizerFast

    return [_transformers(CLIPTokenizerFast.from_pretrained(str(checkpoint)), axes)]


def _simple(checkpoint: Path, axes: TextAxes) -> list[UpstreamTokenizer]:
    from open_clip.tokenizer import SimpleTokenizer

    upstream = SimpleTokenizer(context_length=axes.tokenization.max_length)

    def encode(texts: list[str]) -> list[list[int]]:
        rows: list[list[int]] = upstream(texts).tolist()  # padded with 0, which is a token too
        return [row[: row.index(upstream.eot_token_id) + 1] for row in rows]

    return [UpstreamTokenizer("open_clip SimpleTokenizer", encode)]


def _hf(checkpoint: Path, axes: TextAxes) -> list[UpstreamTokenizer]:
    from open_clip.tokenizer import HFTokenizer

    with TemporaryDirectory() as folder:
        # It opens what the settings name, which may be code, or fails where they name nothing.
        for name in TOKENIZER_FILES:
            if (checkpoint / name).is_file():
                shutil.copy(checkpoint / name, folder)
        settings = read_json(checkpoint / SETTINGS) if (checkpoint / SETTINGS).is_file() else {}
        settings = {name: value for name, value in settings.items() if name != "auto_map"}
        write_json(Path(folder, SETTINGS), {**settings, "tokenizer_class": "BertTokenizer"})
        upstream = HFTokenizer(folder, context_length=axes.tokenization.max_length, clean="whitespace")
    padding = upstream.tokenizer.pad_token_id

    def encode(texts: list[str]) -> list[list[int]]:
        rows: list[list[int]] = upstream(texts).tolist()
        return [[token for token in row if token != padding] for row in rows]

    return [UpstreamTokenizer("open_clip HFTokenizer", encode, list(upstream.tokenizer.get_added_vocab()))]


# Kind of tokenizer, and cleaning → upstream's.
_UPSTREAM: Mapping[tuple[str, str], Callable[[Path, TextAxes], list[UpstreamTokenizer]]] = MappingProxyType(
    {
        (WORD_PIECES, NO_CLEANING): _bert,
        (WORD_PIECES, STRIP_PUNCTUATION): _bert,
        (WORD_PIECES, SENTENCES): _bert,
        (WORD_PIECES, FTFY): _hf,
        (BYTE_PAIRS, NO_CLEANING): _clip,
        (BYTE_PAIRS, FTFY): _simple,
    }
)
