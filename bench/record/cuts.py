"""What a run with a bound on its time measured less of, or not at all."""

from __future__ import annotations

from collections.abc import Iterator

from bench.record.report import MEASURED, OUT_OF_TIME, SKIPPED, Case, Report

__all__ = ["cuts"]


def cuts(report: Report) -> list[str]:
    """A line for each case of which less was measured than was wanted, and one for those that were not begun."""
    found = [f"{case.name}: {'; '.join(said)}" for case in report.cases if (said := list(_of_case(report, case)))]
    if report.not_begun:
        found.append(f"not begun: {', '.join(report.not_begun)}")
    return found


def _of_case(report: Report, case: Case) -> Iterator[str]:
    known = {each.name: each.label for each in report.contestants}
    rounds = [len(row.samples) for row in case.rows if row.status == MEASURED and row.samples]
    wanted = report.settings.get("rounds", 0)
    if case.workload != "cold-start" and rounds and max(rounds) < wanted:
        yield f"{max(rounds)} of {wanted} rounds"
    parts = [row.part_items for row in case.rows if row.part_items]
    if parts:
        few = f"{min(parts):,}" if min(parts) == max(parts) else f"{min(parts):,} to {max(parts):,}"
        yield f"{len(parts)} of {len(rounds)} computed a part, {few} of {case.items:,} {case.unit}"
    left = [known.get(row.contestant, row.contestant) for row in case.rows if _is_left_out(row.status, row.reason)]
    if left:
        yield f"left out: {', '.join(left)}"


def _is_left_out(status: str, reason: str) -> bool:
    return status == SKIPPED and reason == OUT_OF_TIME
