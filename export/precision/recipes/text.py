"""int8 of text encoders: what their recipes are calibrated and ranked with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from export.graphs import GraphSpec
from export.precision.int8 import TextQuantizer, find_groups
from export.precision.lower import Lowering
from export.precision.misses import Misses
from export.precision.recipes.ladder import Ladder, transformer_artifacts
from export.precision.recipes.ranking import ProductRanking
from export.precision.statistics import collect_statistics
from export.progress import Steps
from export.proof import Judge
from export.samples import TextData
from runtime.bundle import Artifact
from runtime.text import Tokenizer, pad_batch, plan_batches

__all__ = ["int8_artifacts", "ranking_feed", "token_feeds"]

_TOKEN_BUDGET = 512
# Calibration texts by which the products are ranked, and their length: more texts or whole ones order them no better.
_TEXTS, _LONGEST = 16, 32
# Of the calibration texts of a model that fills masks one in so many is watched with words masked, too: embeddings of
# [MASK] are none of theirs, and its values would be cut off.
_MASKED, _MASKED_SHARE = 4, 0.15


def int8_artifacts(
    floats: Sequence[Artifact],
    bundle: Path,
    graph: GraphSpec,
    judge: Judge,
    data: TextData,
    tokenizer: Tokenizer,
    lowering: Lowering,
    misses: Misses,
    steps: Steps,
    *,
    masked: bool = False,
) -> list[Artifact]:
    """Quantize the fp32 graph in the forms asked for.

    Args:
        floats: the part's artifacts in floating point, fp32 first: what is quantized, and must be slower.
        bundle: the folder that their files are named from.
        graph: names and axes.
        judge: measures on held-out data.
        data: token ids to calibrate with.
        tokenizer: of the bundle.
        lowering: what was asked for.
        misses: leaves out what does not hold the tier.
        steps: where progress is shown.
        masked: whether the model fills masks, and so meets them.

    Raises:
        GateError, GraphError, ProviderError: one does not, cannot be made or run, and nothing may be left out.
    """
    source = bundle / floats[0].file

    def watch(advance: Callable[[float], None]) -> Ladder:
        groups = find_groups(onnx.load(str(source), load_external_data=False))
        rows = list(data.calibration)
        (engine,) = judge.engines_for(("cpu",))
        tensors = [group.tensor for group in groups]
        watched = [*rows, *_with_masks(rows, tokenizer)] if masked else rows
        statistics = collect_statistics(source, tensors, list(token_feeds(watched, tokenizer)), engine, advance)
        quantizer = TextQuantizer(source, graph, statistics)
        (engine,) = judge.engines_for(("openvino",))
        feed = ranking_feed(rows, tokenizer.pad_token_id)
        return Ladder(quantizer, ProductRanking(quantizer, source, feed, "text_embeds", engine, steps))

    return transformer_artifacts("text", watch, floats, bundle, judge, lowering, misses, steps)


def ranking_feed(rows: Sequence[list[int]], pad_token_id: int) -> dict[str, NDArray[np.int64]]:
    """Inputs of the text graph by which its products are ranked: int64 (batch, sequence) each."""
    # The end of a text that is cut is kept: it is the separator, or what the embedding is made of.
    cut = [row if len(row) <= _LONGEST else [*row[: _LONGEST - 1], row[-1]] for row in rows[:_TEXTS]]
    input_ids, attention_mask = pad_batch(cut, pad_token_id)
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def token_feeds(rows: Sequence[list[int]], tokenizer: Tokenizer) -> Iterator[dict[str, NDArray[np.int64]]]:
    """Inputs of the text graph, int64 (batch, sequence) each, in batches of like lengths."""
    for batch in plan_batches([len(row) for row in rows], _TOKEN_BUDGET):
        input_ids, attention_mask = pad_batch([rows[index] for index in batch], tokenizer.pad_token_id)
        yield {"input_ids": input_ids, "attention_mask": attention_mask}


def _with_masks(rows: Sequence[list[int]], tokenizer: Tokenizer) -> Iterator[list[int]]:
    """Some of the texts again, with words masked."""
    rng, mask = np.random.default_rng(0), tokenizer.required_mask()
    for row in rows[::_MASKED]:
        places = 1 + rng.permutation(max(len(row) - 2, 0))[: math.ceil(_MASKED_SHARE * len(row))]
        yield [mask if place in places else token for place, token in enumerate(row)]
