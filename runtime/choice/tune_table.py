"""What `runtime.choice.tune` measured, for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from runtime.choice.precision import format_cosine
from runtime.choice.tune import Report
from runtime.choice.tuned import Row
from runtime.process import report_written

__all__ = ["describe_report", "print_report"]

_HEADINGS = (
    "part", "engine", "precision", "threads", "streams", "batch", "items/s", "relative", "alone", "fidelity", "rounds",
)  # fmt: skip
_LEFT = 3


def describe_report(report: Report) -> dict[str, Any]:
    """What was measured, JSON-ready.

    Returns:
        machine, goal, rows (as stored, with fidelity, relative and chosen), passed_over, chosen (part → row), reason,
        threads, seconds, left_out.
    """
    return {
        "machine": report.tuning.machine,
        "goal": report.tuning.goal,
        "rows": [
            {
                **asdict(row),
                "relative": _relative(report, row),
                "fidelity": _fidelity(report, row),
                "chosen": row in report.chosen.values(),
            }
            for row in report.tuning.rows
        ],
        "passed_over": [asdict(each) for each in report.passed_over],
        "chosen": {part: asdict(row) for part, row in report.chosen.items()},
        "reason": report.reason,
        "threads": report.threads,
        "seconds": report.seconds,
        "left_out": report.left_out,
    }


def print_report(report: Report) -> None:
    """Print the table and what was chosen."""
    lines = [_HEADINGS, *(_cells(report, row) for row in report.tuning.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    chosen = report.chosen.values()
    for number, line in enumerate(lines):
        cells = [
            cell.ljust(width) if place < _LEFT else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        mark = "  chosen" if number and report.tuning.rows[number - 1] in chosen else ""
        report_written("  ".join(cells) + mark)
    report_written(
        "batch: tokens of a text call, images of an image call; relative: rate as a share of the best; "
        "alone: one text of 16 tokens, or one image"
    )
    for each in report.passed_over:
        report_written(f"passed over: {each.part} {each.precision} on {each.provider}: {each.reason}")
    if report.left_out:
        report_written(
            f"the budget ended after {report.seconds:.0f} s: {report.left_out} settings were not measured; "
            "a larger --budget compares more"
        )
    report_written(f"with threads={report.threads} auto takes {report.reason}")


def _cells(report: Report, row: Row) -> tuple[str, ...]:
    fidelity = _fidelity(report, row)
    return (
        row.part,
        row.provider,
        row.precision,
        str(row.threads),
        str(row.streams),
        str(row.batch),
        f"{row.rate:.1f}",
        f"{_relative(report, row):.2f}",
        f"{row.milliseconds:.1f} ms",
        "-" if fidelity is None else format_cosine(fidelity),
        str(row.rounds),
    )


def _fidelity(report: Report, row: Row) -> float | None:
    return report.fidelity.get((row.part, row.provider, row.precision))


def _relative(report: Report, row: Row) -> float:
    return row.rate / max(other.rate for other in report.tuning.rows if other.part == row.part)
