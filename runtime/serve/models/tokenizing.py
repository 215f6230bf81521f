"""Texts and token ids of strangers: checked and tokenized."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.errors import InputError
from runtime.serve.limits import Limits
from runtime.serve.request_errors import RefusedItem, RequestError
from runtime.text import Tokenizer

__all__ = ["checked_texts", "checked_tokens", "tokenized"]


def checked_texts(texts: Sequence[str], limits: Limits, what: str = "texts") -> None:
    """Refuse what would take long before anything is done with it.

    Raises:
        RequestError: none, too many, or one that is too long.
    """
    _check_count(len(texts), limits, what)
    long = [
        RefusedItem(index, f"has {len(text)} characters; at most {limits.characters} are taken")
        for index, text in enumerate(texts)
        if isinstance(text, str) and len(text) > limits.characters
    ]
    if long:
        raise RequestError("Validation", f"{len(long)} of {len(texts)} {what} are too long.", items=long)


def _check_count(count: int, limits: Limits, what: str) -> None:
    if count == 0:
        raise RequestError("Empty", f"There are no {what}; at least one is expected.")
    if count > limits.texts:
        raise RequestError("Validation", f"{count} {what} came; at most {limits.texts} are taken in a request.")


def tokenized(
    tokenizer: Tokenizer, texts: Sequence[str], prompt: str, truncate: bool | None, from_left: bool
) -> list[list[int]]:
    """Token ids of texts.

    Raises:
        InputError: texts that cannot be used; all of them are named by their index.
    """
    rows, faults = tokenizer.try_encode(texts, prompt=prompt, cut=truncate, from_left=from_left)
    if faults:
        raise InputError.from_faults("texts", faults, len(texts))
    return rows


def checked_tokens(tokenizer: Tokenizer, rows: Sequence[Sequence[int]], limits: Limits) -> list[list[int]]:
    """Token ids of a client.

    Raises:
        RequestError: none, too many, or rows that the model cannot read.
    """
    _check_count(len(rows), limits, "lists of token ids")
    size, longest = tokenizer.vocabulary_size, tokenizer.max_length
    wrong = [RefusedItem(index, reason) for index, row in enumerate(rows) if (reason := _fault(row, size, longest))]
    if wrong:
        raise RequestError("Validation", f"{len(wrong)} of {len(rows)} lists of token ids cannot be used.", items=wrong)
    return [list(row) for row in rows]


def _fault(row: Sequence[int], size: int, longest: int) -> str | None:
    if not 1 <= len(row) <= longest:
        return f"has {len(row)} token ids; 1 to {longest} are read"
    if not all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each < size for each in row):
        return f"has what is no token id; whole numbers from 0 to {size - 1} are expected"
    return None
