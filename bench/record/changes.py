"""What changed between two reports, and which changes are more than noise.

Each row's speed is compared with that of what tells how fast the machine was in the same rounds: the case's baseline
and the matrix products. A report has sixty rows and more, so the probabilities of all are judged together
(`statistics.discoveries`); and each contestant's rows as a whole, which are a family of their own: a slowdown of
everything is seen there, though no single row be sure of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.record.contestant import GPU, ON_GPU, on_device
from bench.record.memory_changes import MemoryChange, memory_changes
from bench.record.report import MEASURED, Case, Report, Row
from bench.record.statistics import Change, Samples, change, common_change, discoveries

__all__ = ["ALL_CASES", "Broken", "Comparison", "MemoryChange", "SpeedChange", "compare_reports", "same_machine"]

# In place of a case's name: all cases of a contestant together, from this many on.
ALL_CASES = "all cases"
_FEWEST_CASES = 4
# Share of repeats in which anything is believed though there is nothing.
_FALSE = 0.05
# What makes another machine; the rest of the table (load, governor …) varies on one.
_MACHINE = ("processor", "cores")
_ENGINE = "engine"


@dataclass(frozen=True)
class SpeedChange:
    """A row's speed in two reports.

    Attributes:
        case: its name, or `ALL_CASES`.
        contestant: its name.
        beside: what tells how fast the machine was; empty where passes a second are compared as they are.
        change: new / old.
        significant: noise does not explain it, and it is larger than the threshold.
        regression: significant, slower, and one that counts.
    """

    case: str
    contestant: str
    beside: tuple[str, ...]
    change: Change
    significant: bool
    regression: bool


@dataclass(frozen=True)
class Broken:
    """A row that was measured in the old report and in the new one is wrong, failed or skipped.

    Attributes:
        case: its name.
        contestant: its name.
        status: in the new report.
        reason: in the new report.
        regression: one that counts.
    """

    case: str
    contestant: str
    status: str
    reason: str
    regression: bool


@dataclass
class Comparison:
    """Two reports compared.

    Attributes:
        speeds: every row that could be compared, the largest change first; before them what each contestant's rows
            have in common.
        memory: rows whose memory, at its peak or at the end of a long run, changed by more than the threshold.
        broken: rows that worked.
        mended: "case, contestant" that are measured in the new report alone, though both have the row.
        only_old: "case, contestant" without a row in the new report.
        only_new: the reverse.
        not_compared: what both measured, and why it cannot be compared.
        cautions: what makes the comparison unfair.
    """

    speeds: list[SpeedChange] = field(default_factory=list)
    memory: list[MemoryChange] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    only_old: list[str] = field(default_factory=list)
    only_new: list[str] = field(default_factory=list)
    not_compared: list[str] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows were compared by speed."""
        return sum(each.case != ALL_CASES for each in self.speeds)

    @property
    def regressions(self) -> int:
        """How many findings are regressions."""
        return sum(each.regression for group in (self.speeds, self.memory, self.broken) for each in group)


def same_machine(old: Report, new: Report) -> bool:
    """Whether seconds of one may be held against the other's."""
    return all(name in old.machine and old.machine[name] == new.machine.get(name) for name in _MACHINE)


def compare_reports(old: Report, new: Report, threshold: float = 0.1, everybody: bool = False) -> Comparison:
    """Compare two reports.

    Args:
        old: what was.
        new: what is.
        threshold: share of speed or memory below which a change does not matter, 0.1 for 10 %.
        everybody: peers' rows can be regressions, not this engine's alone.
    """
    kinds = {each.name: each.kind for each in (*old.contestants, *new.contestants)}
    counts = {name for name, kind in kinds.items() if everybody or kind == _ENGINE}
    found = Comparison(cautions=_cautions(old, new))
    pairs = _pairs(old, new, found, counts)
    on_gpu = {each.name for each in (*old.contestants, *new.contestants) if each.device == GPU}
    _compare_speeds(pairs, same_machine(old, new), threshold, counts, on_gpu, found)
    found.memory += memory_changes([(case.name, row, old_row) for case, _, row, old_row in pairs], threshold, counts)
    return found


_Pair = tuple[Case, Case, Row, Row]  # new case, old case, new row, old row


def _pairs(old: Report, new: Report, found: Comparison, counts: set[str]) -> list[_Pair]:
    """Rows that both measured; the others are noted."""
    new_rows = {(case.name, row.contestant): (case, row) for case in new.cases for row in case.rows}
    old_rows = {(case.name, row.contestant): (case, row) for case in old.cases for row in case.rows}
    found.only_old += [", ".join(each) for each in old_rows if each not in new_rows]
    found.only_new += [", ".join(each) for each in new_rows if each not in old_rows]
    unlike = {case.name for case in new.cases if (it := old.case(case.name)) and _shape(case) != _shape(it)}
    found.not_compared += [f"{name}: the two reports' cases differ in what goes in" for name in sorted(unlike)]
    pairs = []
    for key in (each for each in new_rows if each in old_rows):
        (case, row), (old_case, old_row) = new_rows[key], old_rows[key]
        worked, works = old_row.status == MEASURED, row.status == MEASURED
        if worked and not works:
            found.broken.append(Broken(*key, row.status, row.reason, key[1] in counts))
        elif works and not worked:
            found.mended.append(", ".join(key))
        elif works and case.name not in unlike:
            pairs.append((case, old_case, row, old_row))
    return pairs


def _shape(case: Case) -> tuple[object, ...]:
    return case.workload, case.items, case.unit, case.parameters


def _compare_speeds(
    pairs: Sequence[_Pair], one_machine: bool, threshold: float, counts: set[str], on_gpu: set[str], found: Comparison
) -> None:
    drafts: list[_Draft] = []
    for case, old_case, row, old_row in pairs:
        if not (row.samples and old_row.samples):
            continue  # of the workload that looks at memory alone
        beside = _beside(case, old_case, row.contestant, row.contestant in on_gpu)
        if beside:
            drafts.append((case.name, row.contestant, tuple(beside), change(row, old_row, list(beside.values()))))
        elif one_machine:
            drafts.append((case.name, row.contestant, (), change(row, old_row)))
        else:
            why = "it is the baseline" if row.contestant == case.baseline else "nothing was measured beside both"
            found.not_compared.append(
                f"{case.name}, {row.contestant}: {why}, and seconds of two machines say nothing of each other"
            )
    families: dict[tuple[bool, bool, bool], list[_Draft]] = {}
    for draft in [*drafts, *_together(drafts, counts)]:
        # Findings lend credit to those they are judged with: peers' must not to this engine's, nor seconds, which feel
        # the machine's mood on the day.
        families.setdefault((draft[0] == ALL_CASES, bool(draft[2]), draft[1] in counts), []).append(draft)
    for group in families.values():
        # Together they promise what one family would: one false finding in twenty repeats.
        believed = discoveries([each[3].chance for each in group], _FALSE / len(families))
        for (name, contestant, beside_it, its_change), real in zip(group, believed, strict=True):
            ratio = its_change.ratio.value
            significant = real and abs(math.log(ratio)) > math.log1p(threshold)
            counted = significant and ratio < 1 and contestant in counts
            found.speeds.append(SpeedChange(name, contestant, beside_it, its_change, significant, counted))
    found.speeds.sort(key=lambda each: (each.case != ALL_CASES, -abs(math.log(each.change.ratio.value))))


_Draft = tuple[str, str, tuple[str, ...], Change]  # case, contestant, what ran beside it


def _beside(case: Case, old_case: Case, contestant: str, on_gpu: bool) -> dict[str, tuple[Samples, Samples]]:
    """Samples, new and old, of the baseline and the matrix products, where both reports have them, on a GPU of those
    there; nothing for the baseline itself, whose own seconds say how the machine was. Peers are not asked: a new
    version of one may be faster.
    """
    baseline = on_device(case.baseline, on_gpu)
    if contestant == baseline:
        return {}
    found: dict[str, tuple[Samples, Samples]] = {}
    row, old_row = case.row(baseline), old_case.row(baseline)
    if row and old_row and old_case.baseline == case.baseline and row.is_timed and old_row.is_timed:
        found[baseline] = (row.samples, old_row.samples)
    for name, rate in case.rates.items():
        old_rate = old_case.rates.get(name)
        if old_rate is None or name.startswith(ON_GPU) != on_gpu:
            continue
        if rate.samples and old_rate.samples and rate.operations == old_rate.operations:
            found[f"{name} matrix product"] = (rate.samples, old_rate.samples)
    return found


def _together(drafts: Sequence[_Draft], counts: set[str]) -> list[_Draft]:
    """Each contestant's rows as a whole, where something ran beside them: seconds share their minutes. Not where that
    is this engine itself, as in the cases that it has for itself: what slows all of it is not seen there.
    """
    found: list[_Draft] = []
    for name in dict.fromkeys(contestant for _, contestant, _, _ in drafts):
        rows = [(beside, each) for _, contestant, beside, each in drafts if contestant == name and set(beside) - counts]
        if len(rows) >= _FEWEST_CASES:
            found.append((ALL_CASES, name, rows[0][0], common_change([each for _, each in rows])))
    return found


# Digests differ where a bundle was exported again, which may be what is compared: said, like all the rest.
_COMPARED = ("machine", "settings", "versions", "model")
# They differ between any two runs.
_PASSING = {("machine", name) for name in ("load", "load before", "load after", "time")}


def _cautions(old: Report, new: Report) -> list[str]:
    cautions = [
        f"the {age} report is partial ({report.partial})"
        for age, report in (("old", old), ("new", new))
        if report.partial
    ]
    for part in _COMPARED:
        was: Mapping[str, object] = getattr(old, part)
        now: Mapping[str, object] = getattr(new, part)
        for name in sorted(was.keys() | now.keys()):
            if (part, name) not in _PASSING and was.get(name) != now.get(name):
                cautions.append(f"{part}: {name} {_differs(was.get(name, 'unknown'), now.get(name, 'unknown'))}")
    return cautions


def _differs(was: object, now: object) -> str:
    return "differ" if isinstance(was, Mapping) or isinstance(now, Mapping) else f"was {was}, is {now}"
