"""`python -m bench compare`: what became faster or slower, larger or wrong between two reports."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.record import Report, read_report
from bench.record.changes import ALL_CASES, Comparison, SpeedChange, compare_reports
from runtime.commands.arguments import add_json
from runtime.process import print_json, print_result
from runtime.process.wording import counted

__all__ = ["NAME", "SUMMARY", "add_options", "print_comparison", "run"]

NAME = "compare"
SUMMARY = "Significant changes between two reports; exit status 1 if this engine regressed."

_MEGABYTE = 1e6
# Of each list that can be long.
_SHOWN = 12


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("old", type=Path, help="report.json of the run to compare with")
    parser.add_argument("new", type=Path, help="report.json of the run in question")
    parser.add_argument(
        "--threshold",
        type=_percent,
        default=10.0,
        metavar="PERCENT",
        help="changes of speed or memory up to this do not matter (10)",
    )
    parser.add_argument("--all", action="store_true", help="peers that became slower are regressions as well")
    parser.add_argument("--every", action="store_true", help="list every row, not only significant changes")
    add_json(parser, " with every row")


def run(options: argparse.Namespace) -> int:
    """Compare, print, and return 1 if there is a regression, else 0.

    Raises:
        OSError: a file cannot be read.
        PeerError: a file is no report.
    """
    old, new = read_report(options.old), read_report(options.new)
    found = compare_reports(old, new, options.threshold / 100, options.all)
    if options.json:
        print_json(_as_json(found), indent=1)
    else:
        print_comparison(old, new, found, options.threshold, options.every)
    return int(found.regressions > 0)


def print_comparison(old: Report, new: Report, found: Comparison, threshold: float, every: bool = False) -> None:
    """Print the findings for people.

    Args:
        old: what was.
        new: what is.
        found: of the two.
        threshold: in percent, for the text.
        every: rows without a significant change as well.
    """
    print_result(f"old: {old.created}   new: {new.created}")
    _print_list("Mind that the runs differ", found.cautions, len(found.cautions))
    changed = [each for each in found.speeds if every or each.significant]
    unsure = sum(math.isinf(each.change.ratio.high) for each in found.speeds)
    print_result(f"\n{found.rows} rows compared; changes over {threshold:g} % that noise does not explain:")
    if changed:
        _print_table(changed)
    else:
        print_result("  none")
    if unsure:
        print_result(f"  {unsure} rows could not be judged: one round says nothing of noise. Measure with --rounds 5.")
    _print_list(
        f"Memory that changed by more than {threshold:g} %",
        [
            f"{each.case}, {each.contestant}: {each.old / _MEGABYTE:,.0f} MB → {each.new / _MEGABYTE:,.0f} MB"
            f"{_mark(each.regression)}"
            for each in found.memory
        ],
    )
    _print_list(
        "Measured in the old report, not in the new one",
        [
            f"{each.case}, {each.contestant}: {each.status}{_mark(each.regression)}: {each.reason}"
            for each in found.broken
        ],
        len(found.broken),
    )
    _print_list("Measured in the new report, not in the old one", found.mended)
    _print_list("Only in the old report", found.only_old)
    _print_list("Only in the new report", found.only_new)
    _print_list("Not compared", found.not_compared)
    print_result(f"\n{counted(found.regressions, 'regression') if found.regressions else 'no regressions'}")


def _print_table(changed: Sequence[SpeedChange]) -> None:
    lines = [("case", "contestant", "old", "new", "change", "95 % interval", "")]
    for each in changed:
        unit = "/s*" if each.beside else "/s"
        ratio = each.change.ratio
        interval = "unknown" if math.isinf(ratio.high) else f"{_percents(ratio.low)} … {_percents(ratio.high)}"
        lines.append(
            (
                each.case,
                each.contestant,
                f"{each.change.old:.3g} {unit}",
                f"{each.change.new:.3g} {unit}",
                _percents(ratio.value),
                interval,
                _mark(each.regression),
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (f"{cell:{width}}" for cell, width in zip(line, widths, strict=True))
        print_result(f"  {'  '.join(cells)}".rstrip())
    print_result(
        "  /s: passes a second; *: as on a machine as fast as in the old run, by reference and matrix products"
    )
    if any(each.case == ALL_CASES for each in changed):
        print_result(f"  {ALL_CASES}: geometric mean over the contestant's rows")


def _print_list(title: str, lines: Sequence[str], shown: int = _SHOWN) -> None:
    if not lines:
        return
    print_result(f"\n{title}:")
    for line in lines[:shown]:
        print_result(f"  {_line(line)}")
    if len(lines) > shown:
        print_result(f"  … and {len(lines) - shown} more (--json lists all)")


def _percents(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


def _mark(regression: bool) -> str:
    return "  REGRESSION" if regression else ""


def _line(text: str) -> str:
    """The first line of a text, as peers' reasons may have many, without what a terminal would obey."""
    first = next(iter(text.splitlines()), "")
    return "".join(each if each.isprintable() else "?" for each in first)[:200]


def _as_json(found: Comparison) -> dict[str, Any]:
    content = {"rows": found.rows, "regressions": found.regressions, **asdict(found)}
    for each in content["speeds"]:
        ratio = each["change"].pop("ratio")
        # JSON has no infinity.
        each["change"] |= {name: value if math.isfinite(value) else None for name, value in ratio.items()}
    return content


def _percent(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}; percents of at least 0 are expected")
    return value
