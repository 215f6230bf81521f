"""The int8 recipes of a transformer, cheapest first, and the search among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from export.graphs import GraphInfo
from export.precision.int8 import GroupPlan, TextQuantizer
from export.precision.lower import Lowering, artifact
from export.precision.misses import Asked, Misses
from export.precision.recipes.ranking import Plans, ProductRanking, operations
from export.precision.rivals import find_rivals
from export.precision.search import Candidate, Deadline, Form, Setting, search
from export.progress import Steps
from export.proof import Judge
from runtime.bundle import Artifact

__all__ = ["Ladder", "transformer_artifacts"]

# Shares of the operations left in floating point, one after the other, until the tier holds.
_FLOAT_SHARES = (1 / 8, 1 / 4, 1 / 2, 3 / 4)

# Form of export.precision.int8 → in words, and the engines it is meant for.
_FORMS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "static": ("static int8", ("cpu", "openvino", "cuda")),
    "tensorrt": ("symmetric static int8", ("tensorrt",)),
    "blocks": ("int8 weights, activations per token and block", ("cpu", "openvino")),
}


def transformer_artifacts(
    part: str,
    watch: Callable[[Callable[[float], None]], Ladder],
    floats: Sequence[Artifact],
    bundle: Path,
    judge: Judge,
    lowering: Lowering,
    misses: Misses,
    steps: Steps,
) -> list[Artifact]:
    """Quantize a part's fp32 graph in the forms asked for.

    Args:
        part: "text" or "image".
        watch: runs the fp32 graph on calibration data, telling the share done, and gives the recipes.
        floats: the part's artifacts in floating point, fp32 first: what is quantized, and must be slower.
        bundle: the folder that their files are named from.
        judge: measures on held-out data.
        lowering: what was asked for.
        misses: leaves out what does not hold the tier.
        steps: where progress is shown.

    Raises:
        GateError, GraphError, ProviderError: one does not, cannot be made or run, and nothing may be left out.
    """
    asked = list(_asked(part, lowering))
    made: list[Artifact] = []
    ladder: Ladder | None = None
    with (
        steps.step(f"{part}: watching the calibration {part}s") as advance,
        misses.leaving_out(*(each for each, _ in asked)),
    ):
        ladder = watch(advance)
    if ladder is None:
        return made
    deadline = Deadline(lowering.search_minutes)
    setting = Setting(part, judge, lowering, steps, find_rivals(floats, bundle), deadline)
    for each, form in asked:
        what = f"{part}: {each.precision} for {', '.join(each.providers)} at tier {lowering.tier}"
        with steps.step(what, deadline), misses.leaving_out(each):
            chosen, info, recipe, records = search(ladder.forms(form), bundle / each.file, each.precision, setting)
            made.append(artifact(each.file, each.precision, info, chosen.providers, fidelity=records, recipe=recipe))
    return made


def _asked(part: str, lowering: Lowering) -> Iterator[tuple[Asked, str]]:
    """What was asked for, each with the form that its recipes start from."""
    wanted = []
    if "int8" in lowering.precisions:
        wanted.append(("int8", "static", "model_int8.onnx"))
        if lowering.tensorrt:
            wanted.append(("int8", "tensorrt", "model_int8_tensorrt.onnx"))
    if "int8-dynamic" in lowering.precisions:
        wanted.append(("int8-dynamic", "blocks", "model_int8_dynamic.onnx"))
    for precision, form, file in wanted:
        yield Asked(part, precision, f"{part}/onnx/{file}", _FORMS[form][1]), form


class Ladder:
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
