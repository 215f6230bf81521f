"""Compare the token ids that graphs are fed with the reference's: they must be identical."""

from __future__ import annotations

from pathlib import Path

from export.samples import SENTENCES
from runtime.bundle import ParityRecord
from runtime.text import Tokenizer

__all__ = ["token_parity"]

_IDENTICAL = {"differing": 0.0}


def token_parity(tokenizer: Tokenizer, checkpoint: Path) -> ParityRecord:
    """Compare the bundle's tokenizer with transformers' on the checkpoint's own files.

    Where there is a vocab.txt that is BertTokenizer, where there is a tokenizer.json the class that reads that alone.
    The texts are `SENTENCES`, and some with the tokens that were added for fine-tuning.

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
            references["BertTokenizer"] = BertTokenizer.from_pretrained(str(checkpoint))
        if (checkpoint / "tokenizer.json").is_file():
            whole = PreTrainedTokenizerFast(tokenizer_file=str(checkpoint / "tokenizer.json"))
            references["PreTrainedTokenizerFast"] = whole
    finally:
        logging.set_verbosity(level)
    added = sorted(token for each in references.values() for token in each.get_added_vocab())
    sentences = [text.rstrip("!?.") for text in (*SENTENCES, *(f"No {token}, {token}s." for token in added))]
    encoded, faults = tokenizer.try_encode(sentences)
    refused = {fault.index for fault in faults}  # special tokens, which the runtime does not take in texts
    differing = {
        index
        for reference in references.values()
        for index, ids in enumerate(reference(sentences)["input_ids"])
        if index not in refused and encoded[index] != list(ids)
    }
    return ParityRecord(
        "none",
        f"transformers {' and '.join(references)}",
        f"token ids of {len(sentences)} sentences",
        {"differing": float(len(differing))},
        _IDENTICAL,
    )
