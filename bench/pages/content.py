"""What both the page and the Markdown file say, beside tables and plots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from bench.pages.case_table import case_table
from bench.pages.formats import plain
from bench.pages.headline_table import headline_table
from bench.pages.other_tables import contestants_table, fact_tables, goals_table, loadgen_table, manners_table
from bench.pages.plots import Plotted
from bench.pages.table import Table
from bench.record import GPU, Report
from bench.record.cuts import cuts
from bench.record.headlines import QUESTIONS

__all__ = ["Content", "content"]

TITLE = "Chest X-ray text and image embeddings: how fast, and how faithful"

# Title and text of each paragraph.
_METHOD: tuple[tuple[str, str], ...] = (
    (
        "Verified first.",
        "Everything runs once before anything is timed, and its answers are compared with the reference's. What misses "
        "the gate of its precision is called wrong and has no time; but other tools' int8 is timed down to a mean "
        "cosine of 0.9, says how far it is off, and is compared with. What is not installed, crashes or hangs has that "
        "as its reason.",
    ),
    (
        "In turn.",
        "Each runs in a process of its own, with the same number of threads. After warm-up they take turns, "
        "A B C, A B C, …, so that a slow minute of the machine hits all alike.",
    ),
    (
        "Medians and intervals.",
        "A time is the median over the rounds of each round's median pass. A ratio is taken within each round, and the "
        "median over the rounds is shown. Intervals hold 95 % of 2,000 bootstrap draws of rounds and of passes; they "
        "know nothing of what stayed the same during the run. p90 and p99 are of all passes.",
    ),
    (
        "The limit.",
        "In the same rounds a plain matrix product runs in each precision: that is the attainable rate. “Of the limit” "
        "is useful operations a second, counted for the model as it was published, over that rate. Padding counts as "
        "nothing; work that an engine avoids counts as done, so more than 100 % is possible.",
    ),
    (
        "Everything is kept.",
        "report.json, beside this report, holds every sample of every pass, so that each figure can be computed again.",
    ),
)


@dataclass(frozen=True)
class Content:
    """A report, ready to be written out.

    Attributes:
        title: of the whole.
        subtitle: where and when it was measured.
        warnings: title and text of what has to be known before any figure is read.
        goals: None where none was set.
        headlines: the first table.
        plots: in order.
        cases: each table, and whether it answers a first question.
        loadgen: None where it was not run.
        manners: None where nothing was tried.
        facts: machine, settings, model, versions.
        contestants: who took part.
        method: title and text of each paragraph.
        command: what to type to repeat it.
    """

    title: str
    subtitle: str
    warnings: tuple[tuple[str, str], ...]
    goals: Table | None
    headlines: Table
    plots: tuple[Plotted, ...]
    cases: tuple[tuple[Table, bool], ...]
    loadgen: Table | None
    manners: Table | None
    facts: tuple[Table, ...]
    contestants: Table
    method: tuple[tuple[str, str], ...]
    command: str


def content(report: Report, plots: Iterable[Plotted]) -> Content:
    """Everything that is said of a report."""
    first = {question.case for question in QUESTIONS}
    return Content(
        TITLE,
        _subtitle(report),
        tuple(_warnings(report)),
        goals_table(report) if report.goals else None,
        headline_table(report),
        tuple(plots),
        tuple((case_table(report, case), case.name in first) for case in report.cases),
        loadgen_table(report) if report.loadgen else None,
        manners_table(report) if report.manners else None,
        tuple(fact_tables(report)),
        contestants_table(report),
        _METHOD,
        plain(report.command),
    )


def _subtitle(report: Report) -> str:
    parts = [f"Measured {_when(report.created)}"]
    processor = next((text for name, text in report.machine.items() if name.lower() in ("processor", "cpu")), "")
    if processor:
        on_gpu = any(each.device == GPU for each in report.contestants)
        gpu = f" and {plain(report.machine.get('GPU', 'a GPU'))}" if on_gpu else ""
        parts.append(f"on {plain(processor)}{gpu}")
    threads = report.settings.get("threads")
    if threads:
        parts.append(f"with {threads} thread{'s' if threads != 1 else ''} each")
    if report.seconds:
        parts.append(f"in {_duration(report.seconds)}")
    return " ".join(parts) + "."


def _warnings(report: Report) -> Iterable[tuple[str, str]]:
    if report.partial:
        yield "Partial.", f"Not everything was measured: {plain(report.partial)}. What stands here was."
    cut = cuts(report)
    if cut:
        yield "Cut for time.", f"{plain('. '.join(line[:1].upper() + line[1:] for line in cut))}."
    if report.model.get("trained") is False:
        yield (
            "Random weights.",
            "The model has the published size and layout but no training. Speed and memory are those of trained "
            "weights; the fidelity of int8 says nothing here, as random weights have no outliers to lose.",
        )


def _when(created: str) -> str:
    try:
        moment = datetime.fromisoformat(created.replace("Z", "+00:00"))
    except ValueError:
        return plain(created)
    zone = " UTC" if moment.utcoffset() is not None and not moment.utcoffset() else moment.strftime(" %z").rstrip()
    return f"{moment.day} {moment:%B %Y, %H:%M}{zone}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} seconds"
    return f"{minutes} minutes" if minutes < 120 else f"{seconds / 3600:.1f} hours"
