"""Reports of `python -m bench quality … --json` → one table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.quality.comparison.published import PUBLISHED, data_sets
from runtime.errors import Fault, InputError
from runtime.files import read_json
from runtime.process.wording import few

__all__ = ["TASKS", "Column", "Comparison", "Row", "Task", "Value", "compare", "read_reports"]


@dataclass(frozen=True)
class Column:
    """A figure of a task.

    Attributes:
        title: short.
        path: where it stands in a system's results.
        form: how it is printed.
        lower: whether less is better.
    """

    title: str
    path: tuple[str, ...]
    form: str = ".3f"
    lower: bool = False


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        columns: its figures.
        data: keys of a report that say what it was measured on; figures of others are not comparable.
    """

    columns: tuple[Column, ...]
    data: tuple[str, ...]


_WAYS = (("text_to_image", "text → image"), ("image_to_text", "image → text"))
_MEAN = "mean of the findings"
TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "radnli": Task((Column("ROC-AUC", ("roc_auc",)), Column("accuracy", ("accuracy",))), ("data", "dev")),
        "triplets": Task(
            (Column("accuracy", ("accuracy",)), Column("mean margin", ("mean_margin",))), ("data", "triplets")
        ),
        "masked": Task((Column("accuracy", ("accuracy",)),), ("data", "texts", "share", "one_at_a_time", "seed")),
        "ms-cxr": Task(
            (
                Column("CNR", (_MEAN, "cnr"), "+.3f"),
                Column("|CNR|", (_MEAN, "absolute_cnr")),
                Column("mIoU", (_MEAN, "miou")),
                Column("pointing", (_MEAN, "pointing")),
            ),
            ("annotations", "split", "images", "phrases"),
        ),
        "retrieval": Task(
            tuple(
                column
                for way, said in _WAYS
                for column in (
                    *(Column(f"{said} R@{k}", (way, "recall", str(k))) for k in (1, 5, 10)),
                    Column(f"{said} median rank", (way, "median_rank"), "g", lower=True),
                )
            ),
            ("pairs", "texts", "images"),
        ),
        "zero-shot": Task(
            (
                Column("accuracy", ("accuracy",)),
                Column("balanced accuracy", ("balanced_accuracy",)),
                Column("mean AUROC", ("mean_auroc",)),
            ),
            ("data", "images", "labels"),
        ),
    }
)


@dataclass(frozen=True)
class Value:
    """A figure, with the ends of its interval where it has one; None where it is not defined or was not published."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Row:
    """A system.

    Attributes:
        system: what it is.
        source: of a measured one the file of its report; of a published one the paper.
        measured: which of the two.
        values: one for each column.
    """

    system: str
    source: str
    measured: bool
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Comparison:
    """The table.

    Attributes:
        task: its name.
        columns: its figures.
        rows: measured ones in the order given, then published ones.
        notes: what to mind.
    """

    task: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def best(self, column: int) -> float | None:
        """Of the measured values of a column."""
        found = [row.values[column].value for row in self.rows if row.measured]
        known = [value for value in found if value is not None]
        return (min if self.columns[column].lower else max)(known) if known else None


def read_reports(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Read reports of one task.

    Raises:
        InputError: files that cannot be read or are no reports of a known task, or of several tasks; all are listed.
    """
    reports: list[dict[str, Any]] = []
    faults: list[Fault] = []
    for position, path in enumerate(paths):
        try:
            report = read_json(path)
            if not isinstance(report, dict) or report.get("task") not in TASKS or not _has_results(report):
                raise ValueError(f"is no report of python -m bench quality … --json (tasks: {', '.join(TASKS)})")
            reports.append(report)
        except OSError as error:
            faults.append(Fault(position, str(path), f"cannot be read: {error.strerror or error}"))
        except ValueError as error:
            faults.append(Fault(position, str(path), str(error)))
    if faults:
        raise InputError.from_faults("reports", faults, len(paths))
    tasks = {report["task"]: str(path) for report, path in zip(reports, paths, strict=True)}
    if len(tasks) > 1:
        listed = ", ".join(f"{name} ({path})" for name, path in tasks.items())
        raise InputError(f"Results of one task are put side by side; there are several: {listed}.")
    return reports


def compare(reports: Sequence[Mapping[str, Any]], names: Sequence[str], published: str = "auto") -> Comparison:
    """Put results side by side.

    Args:
        reports: of one task, see `read_reports`.
        names: what to call them: their files.
        published: "none"; a data set of which something was published; "auto" takes that of the task where it has one.

    Raises:
        InputError: nothing was published of that data set for the task.
    """
    task = reports[0]["task"]
    columns = TASKS[task].columns
    rows = [
        Row(
            f"{report['family']}, {system}",
            name,
            True,
            tuple(_value(found, column.path) for column in columns),
        )
        for report, name in zip(reports, names, strict=True)
        for system, found in report["results"].items()
    ]
    data = _data_set(task, published)
    rows += [
        Row(each.system, each.source, False, tuple(Value(each.figures.get(column.title)) for column in columns))
        for each in PUBLISHED.get(task, ())
        if each.data == data
    ]
    return Comparison(task, columns, tuple(rows), tuple(_notes(task, reports, names)))


def _data_set(task: str, published: str) -> str | None:
    there = data_sets(task)
    if published == "auto":
        return there[0] if len(there) == 1 else None
    if published == "none":
        return None
    if published not in there:
        raise InputError(
            f"Nothing published is known of '{published}' for {task}; there is: {', '.join(there) or '–'}."
        )
    return published


def _notes(task: str, reports: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    notes = []
    for key in TASKS[task].data:
        values = [json.dumps(report.get(key), sort_keys=True) for report in reports]
        if len(set(values)) > 1:
            listed = [f"{value} ({name})" for value, name in zip(values, names, strict=True)]
            notes.append(f"not the same data, so that figures do not compare: {key} is {few(listed)}")
    untrained = [name for report, name in zip(reports, names, strict=True) if report.get("weights") == "random"]
    if untrained:
        notes.append(f"random weights, whose figures mean nothing: {few(untrained)}")
    return notes


def _has_results(report: Mapping[str, Any]) -> bool:
    results = report.get("results")
    return isinstance(results, dict) and bool(results) and isinstance(report.get("family"), str)


def _value(found: Any, path: Sequence[str]) -> Value:
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    if isinstance(found, Mapping):
        return Value(*(_number(found.get(key)) for key in ("value", "low", "high")))
    return Value(_number(found))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
