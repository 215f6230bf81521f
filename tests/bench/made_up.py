"""Made-up reports on a shared machine, for tests of what compares reports; nothing was measured."""

from __future__ import annotations

import numpy as np

from bench.record import MEASURED, Case, Report, Row
from bench.record.changes import Comparison
from bench.record.report import Contestant

__all__ = ["KINDS", "MACHINE", "made_up", "significant", "slow_down"]

KINDS = {
    "reference": "reference",
    "peer-a": "peer",
    "peer-b": "peer",
    "engine-a": "engine",
    "engine-b": "engine",
    "engine-c": "engine",
}
MACHINE = {"processor": "a processor", "cores": "2", "load before": "0.1"}


def made_up(
    seed: int, slower: float = 1.0, *, rounds: int = 5, passes: int = 1, cases: int = 12, noise: float = 0.05
) -> Report:
    """12 × 6 rows on a shared machine: 5 % noise of every pass, and rounds that are 10 % slower for everybody."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(cases):
        slow = np.where(rng.random(rounds) < 0.3, 1.1, 1.0)[:, None]
        rows = []
        for index, (name, kind) in enumerate(KINDS.items()):
            seconds = (number + 1) / (index + 1) * (slower if kind == "engine" else 1.0)
            samples = seconds * slow * np.exp(rng.normal(0, noise, (rounds, passes)))
            rows.append(Row(name, MEASURED, samples=samples.tolist(), peak_bytes=[10**8]))
        found.append(Case("shapes", f"case-{number}", "made up", "texts", 8, 0.0, "reference", {}, rows))
    return Report(
        "2026-01-01T00:00:00+00:00",
        "python -m bench",
        machine=dict(MACHINE),
        contestants=[Contestant(name, name, kind) for name, kind in KINDS.items()],
        cases=found,
    )


def slow_down(report: Report, contestant: str, factor: float, cases: slice = slice(None)) -> Report:
    for case in report.cases[cases]:
        row = case.row(contestant)
        row.samples = [[each * factor for each in passes] for passes in row.samples]
    return report


def significant(found: Comparison) -> set[tuple[str, str]]:
    return {(each.case, each.contestant) for each in found.speeds if each.significant}
