"""Words for masks: the parameters of transformers' `fill-mask` pipeline, checked and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from runtime.serve.models.contract import ServedModel
from runtime.serve.protocols.asked import Asked, require
from runtime.serve.request_errors import RequestError
from runtime.serve.wire.fields import Fields
from runtime.text import Tokenizer

__all__ = ["fill_masks"]

_TOP_K = 5
_TARGET_CHARACTERS = 200


async def fill_masks(asked: Asked, model: ServedModel, texts: Sequence[str], parameters: Fields) -> list[Any]:
    """What `ServedModel.fill_mask` gives for each text.

    Args:
        asked: the request.
        model: of its text part.
        texts: with masks.
        parameters: `top_k` and `targets`, a word or several.

    Raises:
        RequestError: the bundle fills no masks; more words are asked for than `Limits.words`; no target has a token.
    """
    require(model, "mask")
    tokenizer = model.engine.text.tokenizer
    top_k = parameters.whole("top_k", _TOP_K, 1, tokenizer.vocabulary_size)
    targets = parameters.texts("targets") if parameters.has("targets") else None
    if targets is not None:
        _check_count("targets", len(targets), asked.limits.texts)
        if max(map(len, targets)) > _TARGET_CHARACTERS:
            message = f"A target has more than {_TARGET_CHARACTERS} characters; words are expected."
            raise RequestError("Validation", message, param=f"{parameters.within}targets")
        # Handed on as they stand, others than tokens would be named in a warning.
        targets = await asyncio.to_thread(_tokens, tokenizer, targets)
        if not targets:
            raise RequestError("Validation", "None of the targets has a token. Give other words, or none.")
        top_k = min(top_k, len(targets))
    mask = tokenizer.token(tokenizer.required_mask()).casefold()
    words = sum(max(1, text.casefold().count(mask)) for text in texts) * top_k
    _check_count("top_k words for each mask", words, asked.limits.words)
    return await model.fill_mask(asked.caller, texts, top_k, targets)


def _check_count(what: str, count: int, most: int) -> None:
    if count > most:
        raise RequestError("Validation", f"{count:,} {what} are asked for; the most is {most:,}. Ask for fewer.")


def _tokens(tokenizer: Tokenizer, targets: Sequence[str]) -> list[str]:
    """Targets as the vocabulary has them; of those that it has not the first piece, as in transformers."""
    found: dict[str, None] = {}
    for target in targets:
        if tokenizer.find(target) is not None:
            found[target] = None
        elif pieces := tokenizer.pieces(target):
            found[tokenizer.token(pieces[0])] = None
    return [*found]
