"""The search among int8 recipes: from cheap to dear, until one holds its tier, is no use any more, or time is up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from export.errors import GateError, GraphError
from export.graphs import GraphInfo
from export.precision.lower import Lowering
from export.precision.remedies import remedy
from export.precision.rivals import Rival, not_faster
from export.progress import Steps
from export.proof import Judge, missed_gates
from export.proof.fidelity import TIERS
from export.proof.shown import bounds, in_words, nearest
from runtime.bundle import FidelityRecord
from runtime.bundle.artifacts import Recipe, Trial
from runtime.errors import ProviderError

__all__ = ["Candidate", "Deadline", "Form", "Setting", "search"]


@dataclass(frozen=True)
class Candidate:
    """One recipe of a search: its name, what repeats it, how it is written, and the engines it is meant for."""

    name: str
    settings: Mapping[str, str]
    write: Callable[[Path], GraphInfo]
    providers: tuple[str, ...]


# Recipes of one form, from cheap to dear: each makes its candidate, and what that takes, only when it is tried.
Form = Sequence[Callable[[], Candidate]]


class Deadline:
    """The end of a search."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes

    def left(self) -> float:
        """Seconds until then, at least 0."""
        return max(0.0, self._end - time.monotonic())

    def __str__(self) -> str:
        left = self.left()
        if math.isinf(left):
            return "no limit"
        return f"{math.ceil(left / 60)} min left" if left >= 60 else f"{left:.0f} s left"


@dataclass(frozen=True)
class Setting:
    """What all searches of one part share.

    Attributes:
        part: "text" or "image".
        judge: measures the recipes.
        lowering: what was asked for.
        steps: where each trial is shown.
        rivals: engine → the fastest floating point there; what no engine runs faster is no candidate.
        deadline: begins no further recipe after it.
    """

    part: str
    judge: Judge
    lowering: Lowering
    steps: Steps
    rivals: Mapping[str, Rival] = field(default_factory=dict)
    deadline: Deadline = field(default_factory=lambda: Deadline(math.inf))


Found = tuple[Candidate, GraphInfo, Recipe, tuple[FidelityRecord, ...]]


def search(forms: Sequence[Form], target: Path, precision: str, setting: Setting) -> Found:
    """Try recipes, cheapest first, until one holds the tier on every engine that it is meant for.

    Recipes of a form give up speed for fidelity. One that is no faster than floating point on this machine is not
    taken, and those after it are not tried. The very first recipe is taken if it holds, whatever its time: there is no
    cheaper int8, and another processor may compute it faster.

    Args:
        forms: recipes in order, by form.
        target: the .onnx file to write; what was tried before is overwritten.
        precision: of the artifact.
        setting: how it is judged, and for how long.

    Raises:
        GateError: no recipe is taken; with what was tried, and what came nearest.
    """
    return _Search(target, precision, setting, most=sum(map(len, forms))).run(forms)


class _Search:
    """One search: what it tried so far."""

    def __init__(self, target: Path, precision: str, setting: Setting, most: int) -> None:
        self._target = target
        self._precision = precision
        self._setting = setting
        self._most = most
        self._tried = 0
        self._trials: list[Trial] = []
        self._gates = TIERS[setting.lowering.tier] if setting.lowering.enforced else {}
        # Why the last form was given up, and whether time was up.
        self._slower = ""
        self._late = False

    def run(self, forms: Sequence[Form]) -> Found:
        for form in forms:
            for make in form:
                if self._tried and not self._setting.deadline.left():
                    self._late = True
                    raise self._error()
                found, slower = self._try(make)
                if found:
                    return found
                if slower:
                    self._slower = slower
                    break
        raise self._error()

    def _try(self, make: Callable[[], Candidate]) -> tuple[Found | None, str]:
        """The recipe, if it is taken; and why it is no faster than floating point, empty where it is."""
        judge, steps, lowering = self._setting.judge, self._setting.steps, self._setting.lowering
        self._tried += 1
        try:
            candidate = make()
        except (GraphError, ProviderError) as error:
            return self._failed(f"recipe {self._tried}", error)
        what = f"{self._setting.part} {self._precision}: {candidate.name}"
        place = f"recipe {self._tried} of at most {self._most}"
        try:
            with steps.substep(what, place):
                info = candidate.write(self._target)
                records = tuple(
                    judge.record(engine, self._target, self._precision, self._gates)
                    for engine in judge.engines_for(candidate.providers)
                )
                slower = not_faster(records, candidate.providers, self._target, self._setting.rivals, judge)
        except (GraphError, ProviderError) as error:
            return self._failed(candidate.name, error)
        holds = not any(missed_gates(record.figures, record.gates) for record in records)
        taken = holds and (self._tried == 1 or not slower)
        verdict = ", ".join(filter(None, ("holds the tier" if holds else "below the tier", slower)))
        for record in records:
            figures, milliseconds = record.figures, record.milliseconds
            self._trials.append(Trial(candidate.name, record.provider, figures, milliseconds, taken, verdict))
            steps.note(f"    {record.provider}: {in_words(figures)}, {milliseconds:.1f} ms a batch: {verdict}")
        if not taken:
            return None, slower
        recipe = Recipe(candidate.name, lowering.tier, dict(candidate.settings), tuple(self._trials))
        return (candidate, info, recipe, records), ""

    def _failed(self, recipe: str, error: Exception) -> tuple[None, str]:
        """Go on with the next: what an engine cannot run of one recipe it may run of another."""
        verdict = f"{type(error).__name__}: {error}"
        self._trials.append(Trial(recipe, "", {}, 0.0, False, verdict))
        self._setting.steps.note(f"    {verdict}")
        return None, ""

    def _error(self) -> GateError:
        """What was tried, what came nearest, and why nothing more was tried."""
        lowering, part = self._setting.lowering, self._setting.part
        best = nearest(self._trials, self._gates)
        cause = "time" if self._late else "speed" if self._slower else "fidelity" if best else "error"
        reason = [f"none of {self._tried} recipes tried holds tier {lowering.tier}"]
        if best:
            lines = missed_gates(best.figures, self._gates)
            reason.append(f"{best.recipe} on {best.provider} came nearest: {', '.join(lines) or best.verdict}")
        else:
            reason += [trial.verdict for trial in self._trials[:1]]
        if self._slower:
            reason[0] += " and is faster than floating point"
            reason.append(f"what is {self._slower} was not made dearer still")
        if self._late:
            reason.append(f"the {lowering.search_minutes:g} min of the search were over")
        return GateError(
            f"No {self._precision} recipe for the {part} encoder holds tier {lowering.tier} ({bounds(self._gates)})",
            [
                f"{trial.recipe}{f' on {trial.provider}' if trial.provider else ''}: "
                + ", ".join(filter(None, (in_words(trial.figures), f"{trial.milliseconds:.1f} ms", trial.verdict)))
                for trial in self._trials
            ],
            remedy=remedy(part, self._precision, lowering.tier, cause),
            reason="; ".join(reason),
            required={name: bound for name, bound in self._gates.items() if not best or name in best.figures},
            best=best.figures if best else None,
            trials=self._trials,
            cause=cause,
        )
