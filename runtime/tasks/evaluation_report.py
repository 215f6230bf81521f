"""An evaluation as a table, and as JSON, with what does not match counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from runtime.process import print_result
from runtime.process.wording import counted, few
from runtime.tasks.evaluation import Evaluation
from runtime.tasks.truth import Matches, TruthTable

__all__ = ["counted", "describe_evaluation", "evaluation_notes", "print_evaluation", "some"]

_SHOWN = 3


def describe_evaluation(evaluation: Evaluation, table: TruthTable, matches: Matches) -> dict[str, Any]:
    """What `print_evaluation` prints, for JSON."""
    return {
        "evaluation": asdict(evaluation),
        "labels_without_column": table.missing,
        "columns_without_label": table.unused,
        "images_without_row": {"count": len(matches.unlabelled), "first": matches.unlabelled[:_SHOWN]},
        "images_that_share_a_row": {"count": len(matches.ambiguous), "first": matches.ambiguous[:_SHOWN]},
        "rows_without_image": {"count": len(matches.unused), "first": matches.unused[:_SHOWN]},
    }


def print_evaluation(evaluation: Evaluation, table: TruthTable, matches: Matches) -> None:
    """Print a line a label, the means, and what does not match."""
    width = max(len(each.label) for each in evaluation.labels) + 2
    print_result(f"\n{'label':<{width}}{'images':>8}{'positive':>10}{'AUROC':>8}{'accuracy':>10}{'left out':>10}")
    for each in evaluation.labels:
        print_result(
            f"{each.label:<{width}}{each.images:>8}{each.positives:>10}{_shown(each.auroc):>8}"
            f"{_shown(each.accuracy):>10}{each.uncertain + each.blank:>10}"
        )
    print_result(f"{'mean':<{width}}{'':>18}{_shown(evaluation.mean_auroc):>8}{_shown(evaluation.mean_accuracy):>10}")
    for line in evaluation_notes(evaluation, table, matches):
        print_result(line)


def evaluation_notes(evaluation: Evaluation, table: TruthTable, matches: Matches) -> Iterator[str]:
    """What of the truth takes no part in an evaluation, counted, a line each."""
    undefined = [each.label for each in evaluation.labels if each.auroc is None]
    if undefined:
        yield f"no AUROC, which needs images with and without, so that means leave it out: {', '.join(undefined)}"
    if table.missing:
        yield f"no column of truth: {', '.join(table.missing)}"
    uncertain, blank = (sum(getattr(each, name) for each in evaluation.labels) for name in ("uncertain", "blank"))
    if uncertain or blank:
        yield f"left out of their label's figures: {counted(uncertain, 'uncertain value')}, {blank} blank"
    for names, what in (
        (matches.unlabelled, "{} without a row of labels"),
        (matches.ambiguous, "{} left out, since a row could mean several of them"),
    ):
        if names:
            yield f"{what.format(counted(len(names), 'image'))}: {some(names)}"
    if matches.unused:
        yield f"{counted(len(matches.unused), 'row')} of labels without an image: {some(matches.unused)}"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def some(names: Sequence[str]) -> str:
    """The first few of them."""
    return few(map(repr, names), _SHOWN)
