"""Compare the token ids that graphs are fed with the reference's: they must be identical."""

from __future__ import annotations

from pathlib import Path

from export.families import TextAxes
from export.samples import SENTENCES
from runtime.bundle import ParityRecord
from runtime.bundle.parts import CUT, STRIP_PUNCTUATION
from runtime.text import Tokenizer

__all__ = ["token_parity"]

_IDENTICAL = {"differing": 0.0}


def token_parity(tokenizer: Tokenizer, checkpoint: Path, axes: TextAxes) -> ParityRecord:
    """Compare the bundle's tokenizer with transformers' on the checkpoint's own files.

    Where there is a vocab.txt that is BertTokenizer, where there is a tokenizer.json the class that reads that alone.
    The texts are `SENTENCES`, one that is longer than the model reads, and some with the tokens that were added for
    fine-tuning.

    Args:
        tokenizer: the bundle's.
        checkpoint: folder with its files.
        axes: how texts are cleaned, cut and cased; the prompts are put before texts by the reference as text.

    Returns:
        Figure: differing, the number of sentences whose ids differ.
    """
    from transformers import BertTokenizer, PreTrainedTokenizerFast
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns about the class name in the hub's own file
    references = {}
    try:
        if (checkpoint / "vocab.txt").is_file():
            casing = {} if axes.lowercase is None else {"do_lower_case": axes.lowercase}
            references["BertTokenizer"] = BertTokenizer.from_pretrained(str(checkpoint), **casing)
        if (checkpoint / "tokenizer.json").is_file() and axes.lowercase is None:
            whole = PreTrainedTokenizerFast(tokenizer_file=str(checkpoint / "tokenizer.json"))
            references["PreTrainedTokenizerFast"] = whole
    finally:
        logging.set_verbosity(level)
    added = sorted(token for each in references.values() for token in each.get_added_vocab())
    rules = axes.tokenization
    sentences = [*SENTENCES, *(f"No {token}, {token}s." for token in added)]
    sentences += [" ".join([SENTENCES[0]] * rules.max_length)] if rules.too_long == CUT else []
    prompt = tokenizer.prompt(None)
    encoded, faults = tokenizer.try_encode(sentences, prompt=prompt)
    refused = {fault.index for fault in faults}  # special tokens, which the runtime does not take in texts
    strip = rules.cleaning == STRIP_PUNCTUATION
    given = [prompt + (text.rstrip("!?.") if strip else text) for text in sentences]
    given = [text.lower() for text in given] if axes.lowercase_before else given
    options = {"truncation": True, "max_length": rules.max_length} if rules.too_long == CUT else {}
    differing = {
        index
        for reference in references.values()
        for index, ids in enumerate(reference(given, **options)["input_ids"])
        if index not in refused and encoded[index] != list(ids)
    }
    return ParityRecord(
        "none",
        f"transformers {' and '.join(references)}",
        f"token ids of {len(sentences)} sentences",
        {"differing": float(len(differing))},
        _IDENTICAL,
    )
