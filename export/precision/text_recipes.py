"""The int8 recipes of the text encoder, cheapest first, and the search among them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from export.graphs import GraphInfo, GraphSpec
from export.precision.int8 import GroupPlan, TextQuantizer, find_groups
from export.precision.lower import Lowering, artifact
from export.precision.misses import Asked, Misses
from export.precision.ranking import Plans, ProductRanking, operations
from export.precision.rivals import find_rivals
from export.precision.search import Candidate, Deadline, Form, Setting, search
from export.precision.statistics import collect_statistics
from export.progress import Steps
from export.proof import Judge
from export.samples import TextData
from runtime.bundle import Artifact
from runtime.text import Tokenizer, pad_batch, plan_batches

__all__ = ["int8_artifacts", "token_feeds"]

# Shares of the operations left in floating point, one after the other, until the tier holds.
_FLOAT_SHARES = (1 / 8, 1 / 4, 1 / 2, 3 / 4)
_TOKEN_BUDGET = 512
# Of the calibration texts of a model that fills masks one in so many is watched with words masked, too: embeddings of
# [MASK] are none of theirs, and its values would be cut off.
_MASKED, _MASKED_SHARE = 4, 0.15

# Form of export.precision.int8 → in words, and the engines it is meant for.
_FORMS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "static": ("static int8", ("cpu", "openvino", "cuda")),
    "tensorrt": ("symmetric static int8", ("tensorrt",)),
    "blocks": ("int8 weights, activations per token and block", ("cpu", "openvino")),
}


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
    asked = list(_asked(lowering))
    made: list[Artifact] = []
    ladder: _Ladder | None = None
    with (
        steps.step("text: watching the calibration texts") as advance,
        misses.leaving_out(*(each for each, _ in asked)),
    ):
        groups = find_groups(onnx.load(str(source), load_external_data=False))
        rows = list(data.calibration)
        (engine,) = judge.engines_for(("cpu",))
        tensors = [group.tensor for group in groups]
        watched = [*rows, *_with_masks(rows, tokenizer)] if masked else rows
        statistics = collect_statistics(source, tensors, list(token_feeds(watched, tokenizer)), engine, advance)
        quantizer = TextQuantizer(source, graph, statistics)
        (engine,) = judge.engines_for(("openvino",))
        ladder = _Ladder(quantizer, ProductRanking(quantizer, source, rows, tokenizer.pad_token_id, engine, steps))
    if ladder is None:
        return made
    deadline = Deadline(lowering.search_minutes)
    setting = Setting("text", judge, lowering, steps, find_rivals(floats, bundle), deadline)
    for each, form in asked:
        what = f"text: {each.precision} for {', '.join(each.providers)} at tier {lowering.tier}"
        with steps.step(what, deadline), misses.leaving_out(each):
            chosen, info, recipe, records = search(ladder.forms(form), bundle / each.file, each.precision, setting)
            made.append(artifact(each.file, each.precision, info, chosen.providers, fidelity=records, recipe=recipe))
    return made


def _asked(lowering: Lowering) -> Iterator[tuple[Asked, str]]:
    """What was asked for, each with the form that its recipes start from."""
    wanted = []
    if "int8" in lowering.precisions:
        wanted.append(("int8", "static", "model_int8.onnx"))
        if lowering.tensorrt:
            wanted.append(("int8", "tensorrt", "model_int8_tensorrt.onnx"))
    if "int8-dynamic" in lowering.precisions:
        wanted.append(("int8-dynamic", "blocks", "model_int8_dynamic.onnx"))
    for precision, form, file in wanted:
        yield Asked("text", precision, f"text/onnx/{file}", _FORMS[form][1]), form


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


class _Ladder:
    """Recipes from cheap to dear; the products are ranked when the first of the dear ones is asked for."""

    def __init__(self, quantizer: TextQuantizer, ranking: ProductRanking) -> None:
        self._quantizer = quantizer
        self._ranking = ranking

    def forms(self, form: str) -> list[Form]:
        """All recipes that start from a form; the static one turns to blocks before it gives up much speed."""
        quantizer = self._quantizer
        plans = {
            group.tensor: GroupPlan(copies=0 if form == "blocks" else quantizer.copies(group))
            for group in quantizer.groups
        }
        if form != "static":
            return [[self._recipe(form, plans, share) for share in (0, *_FLOAT_SHARES)]]
        return [[self._recipe(form, plans, share) for share in (0, _FLOAT_SHARES[0])], *self.forms("blocks")]

    def _recipe(self, form: str, plans: Plans, share: float = 0) -> Callable[[], Candidate]:
        """Makes a candidate that leaves a share of the operations in floating point; the ranking waits until then."""
        return lambda: self._candidate(form, self._partly_float(plans, share) if share else plans)

    def _partly_float(self, plans: Plans, share: float) -> dict[str, GroupPlan]:
        """The plans with the most damaging products, up to a share of all operations, in floating point."""
        total = sum(map(operations, self._quantizer.groups))
        changed, taken = dict(plans), 0
        for group in self._ranking.order(plans):
            if taken + operations(group) / 2 <= share * total:
                taken += operations(group)
                changed[group.tensor] = replace(plans[group.tensor], quantized=False)
        return changed

    def _candidate(self, form: str, plans: Plans) -> Candidate:
        quantizer = self._quantizer

        def write(target: Path) -> GraphInfo:
            return quantizer.write(target, plans, form)

        kept = [group for group in quantizer.groups if not plans[group.tensor].quantized]
        copied = [group for group in quantizer.groups if plans[group.tensor].copies and group not in kept]
        described, providers = _FORMS[form]
        name = described
        if copied:
            name += f", outlier channels of {len(copied)} products in several copies"
        if kept:
            share = sum(map(operations, kept)) / sum(map(operations, quantizer.groups))
            name += f", {share:.0%} of the operations in floating point"
        alphas = {group.tensor: quantizer.alpha(group, plans[group.tensor], form) for group in quantizer.groups}
        settings = {
            "form": form,
            "alpha": ", ".join(f"{tensor}: {alpha:g}" for tensor, alpha in alphas.items() if alpha is not None),
            "copies": ", ".join(f"{group.tensor}: {plans[group.tensor].copies}" for group in copied),
            "floating_point": ", ".join(group.tensor for group in kept),
        }
        return Candidate(name, settings, write, providers)
