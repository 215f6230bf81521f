"""Compare the token ids that graphs are fed with the reference's: they must be identical."""

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
from export.samples import SENTENCES
from runtime.bundle import ParityRecord
from runtime.bundle.parts import BYTE_PAIRS, CUT, FTFY, NO_CLEANING, STRIP_PUNCTUATION, WORD_PIECES
from runtime.bundle.parts import SENTENCES as CLEANED_SENTENCES
from runtime.text import Tokenizer
from runtime.text.cleaning import words_of_sentences

__all__ = ["token_parity"]

_IDENTICAL = {"differing": 0.0}
# What notes bring from other systems, and what a vocabulary has only in pieces.
_UNTIDY = (
    "the patient’s “small” effusion… ‘unchanged’ – 3′ × 4″",
    "Effusion &lt; 2 cm &amp; stable; SpO2 &amp;gt; 95&nbsp;% <b>now</b> &#x2191;",
    "Ã©panchement pleural, MeniÃ¨re, â€œquotedâ€\x9d, voilÃ  le poumon",
    "ＬＯＵＤ　ｆｕｌｌ　ｗｉｄｔｈ, ﬁbrosis and eﬀusion, ½ ² Å K",
    "Épanchement, Ménière, naïve façade, Cafe\u0301, Straße, ΠΝΕΥΜΟΝΙΑΣ, it'ſ, İstanbul",
    "胸部X線で肺炎、エックス線 폐렴 пневмония رئة",
    "chest 🫁 x-ray 👩🏽‍⚕️ ☢",
    "tab\tform\ffeed\vvertical\x00nul\x1b[31mred\x1b[0m\x7fdel\x1cfs\x85nel\u2028ls\u200bzwsp\ufeffbom",
    "CHEST PA/LAT: IT'S 12/03/2021; T7-T8, q6h., 10mg... can't, we've, I'll, he'd!?!",
    " \t\r\n",
)


# What is done to texts where upstream's tokenizer does not do it. No class of GLoRIA's can be installed: how its rules
# are followed is compared in tests/runtime/text/test_cleaning.py.
_CLEANED: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {STRIP_PUNCTUATION: lambda text: text.rstrip("!?."), CLEANED_SENTENCES: words_of_sentences}
)


class _Reference(NamedTuple):
    """A tokenizer of upstream's.

    Attributes:
        name: of its class.
        encode: texts → token ids, cut as upstream cuts, unpadded.
        added: tokens that it finds whole.
    """

    name: str
    encode: Callable[[list[str]], list[list[int]]]
    added: Sequence[str] = ()


def token_parity(tokenizer: Tokenizer, checkpoint: Path, axes: TextAxes) -> ParityRecord:
    """Compare the bundle's tokenizer with upstream's on the checkpoint's own files.

    Upstream's is, by the kind of tokenizer and the cleaning of texts: transformers' BertTokenizer where there is a
    vocab.txt, and where there is a tokenizer.json the class that reads that alone; transformers' CLIPTokenizer; for
    texts that ftfy mends open_clip's SimpleTokenizer, which reads no file, or HFTokenizer. The texts are `SENTENCES`,
    untidy ones, one that is longer than the model reads, and some with the tokens that were added for fine-tuning.

    Args:
        tokenizer: the bundle's.
        checkpoint: folder with its files.
        axes: how texts are cleaned, cut and cased; the prompts are put before texts by the reference as text.

    Returns:
        Figure: differing, the number of sentences whose ids differ.
    """
    from transformers.utils import logging

    rules = axes.tokenization
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns about the class name in the hub's own file
    try:
        references = _REFERENCES[rules.tokenizer, rules.cleaning](checkpoint, axes)
        added = sorted({token for each in references for token in each.added})
        sentences = [*SENTENCES, *_UNTIDY, *(f"No {token}, {token}s." for token in added)]
        sentences += [" ".join([SENTENCES[0]] * rules.max_length)] if rules.too_long == CUT else []
        prompt = tokenizer.prompt(None)
        encoded, faults = tokenizer.try_encode(sentences, prompt=prompt)
        refused = {fault.index for fault in faults}  # special tokens, which the runtime does not take in texts
        clean = _CLEANED.get(rules.cleaning, str)
        given = [prompt + clean(text) for text in sentences]
        given = [text.lower() for text in given] if axes.lowercase_before else given
        differing = {
            index
            for reference in references
            for index, ids in enumerate(reference.encode(given))
            if index not in refused and encoded[index] != list(ids)
        }
    finally:
        logging.set_verbosity(level)
    return ParityRecord(
        "none",
        " and ".join(each.name for each in references),
        f"token ids of {len(sentences)} sentences",
        {"differing": float(len(differing))},
        _IDENTICAL,
    )


def _transformers(tokenizer: Any, axes: TextAxes) -> _Reference:
    rules = axes.tokenization
    options = {"truncation": True, "max_length": rules.max_length} if rules.too_long == CUT else {}

    def encode(texts: list[str]) -> list[list[int]]:
        found: list[list[int]] = tokenizer(texts, **options)["input_ids"]
        return found

    return _Reference(f"transformers {type(tokenizer).__name__}", encode, list(tokenizer.get_added_vocab()))


def _bert(checkpoint: Path, axes: TextAxes) -> list[_Reference]:
    from transformers import BertTokenizer, PreTrainedTokenizerFast

    found = []
    if (checkpoint / "vocab.txt").is_file():
        casing = {} if axes.lowercase is None else {"do_lower_case": axes.lowercase}
        found.append(_transformers(BertTokenizer.from_pretrained(str(checkpoint), **casing), axes))
    if (checkpoint / "tokenizer.json").is_file() and axes.lowercase is None:
        whole = PreTrainedTokenizerFast(tokenizer_file=str(checkpoint / "tokenizer.json"))
        found.append(_transformers(whole, axes))
    return found


def _clip(checkpoint: Path, axes: TextAxes) -> list[_Reference]:
    # The only class of version 5, where both names are one; version 4's other one mends texts where ftfy is installed.
    from transformers import CLIPTokenizerFast

    return [_transformers(CLIPTokenizerFast.from_pretrained(str(checkpoint)), axes)]


def _simple(checkpoint: Path, axes: TextAxes) -> list[_Reference]:
    from open_clip.tokenizer import SimpleTokenizer

    upstream = SimpleTokenizer(context_length=axes.tokenization.max_length)

    def encode(texts: list[str]) -> list[list[int]]:
        rows: list[list[int]] = upstream(texts).tolist()  # padded with 0, which is a token too
        return [row[: row.index(upstream.eot_token_id) + 1] for row in rows]

    return [_Reference("open_clip SimpleTokenizer", encode)]


def _hf(checkpoint: Path, axes: TextAxes) -> list[_Reference]:
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

    return [_Reference("open_clip HFTokenizer", encode, list(upstream.tokenizer.get_added_vocab()))]


# Kind of tokenizer, and cleaning → upstream's.
_REFERENCES: Mapping[tuple[str, str], Callable[[Path, TextAxes], list[_Reference]]] = MappingProxyType(
    {
        (WORD_PIECES, NO_CLEANING): _bert,
        (WORD_PIECES, STRIP_PUNCTUATION): _bert,
        (WORD_PIECES, CLEANED_SENTENCES): _bert,
        (WORD_PIECES, FTFY): _hf,
        (BYTE_PAIRS, NO_CLEANING): _clip,
        (BYTE_PAIRS, FTFY): _simple,
    }
)
