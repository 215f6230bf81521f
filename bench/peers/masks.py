"""This engine with the decoder on every token, to show what leaving the others out saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peers.contract import TOP, Prepare, Spec, masks_answer
from bench.peers.settled import settled

__all__ = ["open_every_token"]


class _EveryToken:
    """A session that computes last layer and decoder for all tokens of its rows, and then picks those asked for."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        rows, width = inputs["input_ids"].shape
        everywhere = np.tile(np.arange(width), (rows, 1))
        (logits,) = self._session.run(outputs, {**inputs, "mask_positions": everywhere})
        return [logits[np.arange(rows)[:, None], inputs["mask_positions"]]]


def open_every_token(spec: Spec) -> Prepare:
    """The same graph on the same engine, asked for the words at every token; all else as in this engine."""
    from runtime.bundle import FILL_MASK, open_bundle
    from runtime.engines import PROVIDERS, SessionOptions, Sessions
    from runtime.text import Tokenizer
    from runtime.text.fill_mask import MaskFiller

    bundle, provider = open_bundle(spec["bundle"]), PROVIDERS[spec["provider"]]
    source = "fp32" if spec["precision"] in provider.from_fp32 else spec["precision"]
    graph = bundle.path(bundle.artifact("text", source, FILL_MASK, provider.name).file)
    options = SessionOptions(threads=spec["threads"], precision=spec["precision"])
    session = _EveryToken(provider.open(graph, options))
    tokenizer = Tokenizer(bundle.path("text"), bundle.text_part().tokenization)
    filler = MaskFiller(tokenizer, lambda: Sessions(lambda streams: session, 1), provider.batch["text"])
    return lambda case: settled(lambda: masks_answer(filler.fill_mask(case["texts"], TOP)))
