"""The contestants of `python -m bench fill-mask`: from what a worker is told to a function that fills all masks once.

Each answers with float64 (texts, 2 × 5): the ids of the five best tokens at the mask, then their scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.settled import settled

__all__ = ["MASK_PEERS", "TOP"]

TOP = 5

Spec = Mapping[str, Any]
Run = Callable[[], NDArray[Any]]


def _answer(filled: Sequence[Sequence[Mapping[str, Any]]]) -> NDArray[np.float64]:
    return np.array([[*(each["token"] for each in one), *(each["score"] for each in one)] for one in filled])


def _engine(spec: Spec) -> Run:
    """This engine: strings → words and scores."""
    import runtime

    engine = runtime.load(spec["bundle"], spec["provider"], spec["precision"], spec["threads"], parts=["text"])
    return settled(lambda: _answer(engine.text.fill_mask(spec["texts"], TOP)))


class _EveryToken:
    """A session that computes last layer and decoder for all tokens of its rows, and then picks those asked for."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        rows, width = inputs["input_ids"].shape
        everywhere = np.tile(np.arange(width), (rows, 1))
        (logits,) = self._session.run(outputs, {**inputs, "mask_positions": everywhere})
        return [logits[np.arange(rows)[:, None], inputs["mask_positions"]]]


def _every_token(spec: Spec) -> Run:
    """The same graph on the same engine, asked for the words at every token; all else as in this engine."""
    from runtime.bundle import FILL_MASK, open_bundle
    from runtime.fill_mask import MaskFiller
    from runtime.providers import PROVIDERS
    from runtime.session import SessionOptions
    from runtime.sessions import Sessions
    from runtime.text import TOKEN_BUDGET
    from runtime.tokenization import Tokenizer

    bundle, provider = open_bundle(spec["bundle"]), PROVIDERS[spec["provider"]]
    source = "fp32" if spec["precision"] in provider.from_fp32 else spec["precision"]
    graph = bundle.path(bundle.artifact("text", source, FILL_MASK, provider.name).file)
    options = SessionOptions(threads=spec["threads"], precision=spec["precision"])
    session = _EveryToken(provider.open(graph, options))
    tokenizer = Tokenizer(bundle.path("text"), bundle.text_part().max_length)
    filler = MaskFiller(tokenizer, lambda: Sessions(lambda streams: session, 1), TOKEN_BUDGET)
    return lambda: _answer(filler.fill_mask(spec["texts"], TOP))


def _transformers(spec: Spec) -> Run:
    """transformers' own fill-mask pipeline in PyTorch fp32, all texts in one batch."""
    import torch
    from transformers import BertForMaskedLM, BertTokenizer, FillMaskPipeline
    from transformers.utils import logging

    torch.set_num_threads(spec["threads"])
    logging.set_verbosity_error()
    tokenizer = BertTokenizer.from_pretrained(spec["checkpoint"])
    model = BertForMaskedLM.from_pretrained(spec["checkpoint"]).eval()
    pipeline = FillMaskPipeline(model=model, tokenizer=tokenizer, batch_size=len(spec["texts"]))
    return lambda: _answer(pipeline(spec["texts"], top_k=TOP))


MASK_PEERS: Mapping[str, Callable[[Spec], Run]] = MappingProxyType(
    {"engine masks": _engine, "every token masks": _every_token, "transformers masks": _transformers}
)
