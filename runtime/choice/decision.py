"""Which engine runs a bundle, in what, and how: what `runtime.load`, `doctor` and `tune` all go by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from runtime.bundle import Bundle
from runtime.choice.precision import Choice, choose_precision, is_faithful
from runtime.choice.trials import Trial
from runtime.choice.tuned import Row, Tuning
from runtime.engines import Provider, choose_provider, processor_name
from runtime.engines.providers import AUTO_ORDER
from runtime.errors import BundleError, CxrEngineError, ProviderError

__all__ = ["Plan", "decide"]


@dataclass(frozen=True)
class Plan:
    """A way to run a bundle.

    Attributes:
        provider: the engine.
        choices: the artifact and precision of each part.
        tuned: the best row of each part that has one.
        threads: those that will compute.
        reason: why this engine, in one sentence.
        score: product of the parts' tuned figures; None unless every part has one.
    """

    provider: Provider
    choices: dict[str, Choice]
    tuned: dict[str, Row]
    threads: int
    reason: str
    score: float | None = None

    def row(self, part: str) -> Row | None:
        """What streams and batch of a part should be: as tuned with these very threads, or nothing."""
        row = self.tuned.get(part)
        return row if row is not None and row.threads == self.threads else None


def decide(
    bundle: Bundle,
    parts: Iterable[str],
    provider: str,
    precision: Mapping[str, str],
    min_fidelity: float,
    threads: int,
    tuning: Tuning | None,
    trial: Callable[[Sequence[Plan]], Mapping[str, Trial]] | None = None,
) -> tuple[list[Plan], dict[str, CxrEngineError]]:
    """The ways to run a bundle, best first, and why other engines cannot.

    "auto" takes the engine that was tuned to be fastest over all parts. Without that a GPU comes first, then the
    processor's engines by the times that the bundle recorded of all of them on this very processor; else as they came
    out in a trial, where one of them computes in less than fp32; else by times that were all recorded on one other
    processor. Else they come in a fixed order.

    Args:
        bundle: the opened bundle.
        parts: those wanted.
        provider: a name, or "auto".
        precision: of parts; those that it lacks are "auto".
        min_fidelity: as for `runtime.load`.
        threads: those that will compute. Rows tuned with other numbers of threads choose engine and precision where
            there are no better ones, but neither streams nor batch.
        tuning: what was tuned, see `read_tuning`.
        trial: gives trials of plans by part, see `runtime.choice.trial`; asked only where they would decide.

    Raises:
        ProviderError: as for `choose_provider`.
    """
    wanted = tuple(parts)
    plans: list[Plan] = []
    failures: dict[str, CxrEngineError] = {}
    for candidate in choose_provider(provider):
        try:
            plans.append(_plan(bundle, wanted, candidate, precision, min_fidelity, threads, tuning))
        except (BundleError, ProviderError) as error:
            failures[candidate.name] = error
    if provider != "auto":
        how = ", and tuned on this machine" if any(plan.tuned for plan in plans) else ""
        return [replace(plan, reason=f"{provider}: asked for{how}") for plan in plans], failures
    if tuning is not None and any(plan.score is not None for plan in plans):
        ordered, why = _by_tuning(plans, tuning, wanted)
    else:
        ordered, why = _untuned(plans, trial)
    return [
        replace(plan, reason=f"{plan.provider.name}: {'the next that can run it' if place else why}")
        for place, plan in enumerate(ordered)
    ], failures


def _by_tuning(plans: Sequence[Plan], tuning: Tuning, wanted: Sequence[str]) -> tuple[list[Plan], str]:
    ordered = sorted(plans, key=lambda plan: plan.score or 0, reverse=True)
    tuned = [plan.provider.name for plan in plans if plan.score is not None]
    best = ordered[0]
    figures = ", ".join(
        f"{part} {best.tuned[part].precision} {best.tuned[part].figure(tuning.goal)}" for part in wanted
    )
    which = f"the fastest of {', '.join(tuned)}" if len(tuned) > 1 else "the only engine"
    return ordered, f"{which} as tuned on this machine for {tuning.goal} ({figures})"


def _untuned(
    plans: Sequence[Plan], trial: Callable[[Sequence[Plan]], Mapping[str, Trial]] | None
) -> tuple[list[Plan], str]:
    on_gpu = [plan for plan in plans if plan.provider.processor() != processor_name()]
    others = [plan for plan in plans if plan not in on_gpu]
    if len(plans) < 2:
        return list(plans), "the only engine here that can run it"
    by_records = _by_records(others)
    if on_gpu:
        return [*on_gpu, *(by_records or (others, ""))[0]], "a GPU goes before processors"
    recorded_here = by_records is not None and by_records[2] == processor_name()
    trials: Mapping[str, Trial] = {}
    # In fp32 the processor's engines are too close for what a trial costs.
    if trial and not recorded_here and any(c.precision != "fp32" for plan in others for c in plan.choices.values()):
        trials = trial(others)
    by_trial = _by_trial(others, trials)
    if by_trial is not None:
        return by_trial
    faults = dict.fromkeys(found.fault for found in trials.values() if found.fault)
    failed = "".join(f"; they could not be tried: {fault}" for fault in faults)
    if by_records is not None:
        return by_records[0], by_records[1] + failed
    why = (
        f"the first of {', '.join(AUTO_ORDER)} that can run it; it was not tuned here, "
        "and the bundle does not have every engine's time on one processor"
    )
    return others, why + failed


def _by_records(plans: Sequence[Plan]) -> tuple[list[Plan], str, str] | None:
    """The plans by the bundle's times, why, and of which processor they are; None where it lacks times of one."""
    processors = {choice.fidelity.processor for plan in plans for choice in plan.choices.values() if choice.fidelity}
    times = [_milliseconds(plan) for plan in plans]
    if len(plans) < 2 or len(processors) != 1 or not all(math.isfinite(time) for time in times):
        return None
    ordered = [plans[index] for index in sorted(range(len(plans)), key=lambda index: times[index])]
    figures = ", ".join(
        f"{part} {choice.precision} {choice.fidelity.milliseconds:.1f} ms a batch"
        for part, choice in ordered[0].choices.items()
        if choice.fidelity is not None
    )
    (processor,) = processors
    where = "this processor" if processor == processor_name() else f"another processor, {processor}"
    names = ", ".join(plan.provider.name for plan in plans)
    return ordered, f"the fastest of {names} by the times that the bundle has of {where} ({figures})", processor


def _by_trial(plans: Sequence[Plan], trials: Mapping[str, Trial]) -> tuple[list[Plan], str] | None:
    """The plans as they came out in trials, and why; None unless every part was tried."""
    if not all(part in trials and trials[part].milliseconds for part in plans[0].choices):
        return None

    def milliseconds(plan: Plan) -> float:
        return math.prod(trials[part].milliseconds.get(plan.provider.name, math.inf) for part in plan.choices)

    ordered = sorted(plans, key=milliseconds)
    best, *others = ordered
    names = ", ".join(plan.provider.name for plan in plans)
    figures = ", ".join(
        f"{part} {choice.precision} {_tried(best, part, trials)}" for part, choice in best.choices.items()
    )
    against = "; ".join(
        f"{plan.provider.name}: {', '.join(f'{part} {_tried(plan, part, trials)}' for part in plan.choices)}"
        for plan in others
    )
    return ordered, f"the fastest of {names} in a trial on this machine ({figures}; {against})"


def _tried(plan: Plan, part: str, trials: Mapping[str, Trial]) -> str:
    time = trials[part].milliseconds.get(plan.provider.name)
    return "failed" if time is None else f"{time:.1f} ms a batch"


def _milliseconds(plan: Plan) -> float:
    """Product over the parts, for comparison only; not finite unless all were measured."""
    records = [choice.fidelity for choice in plan.choices.values()]
    return math.prod(math.nan if record is None else record.milliseconds for record in records)


def _plan(
    bundle: Bundle,
    parts: Sequence[str],
    provider: Provider,
    precision: Mapping[str, str],
    min_fidelity: float,
    threads: int,
    tuning: Tuning | None,
) -> Plan:
    choices: dict[str, Choice] = {}
    rows: dict[str, Row] = {}
    for part in parts:
        asked = precision.get(part, "auto")
        found = _tuned(bundle, part, provider, asked, min_fidelity, threads, tuning)
        choices[part], row = found or (choose_precision(bundle, part, provider, asked, min_fidelity), None)
        if row is not None:
            rows[part] = row
    scored = tuning is not None and len(rows) == len(parts)
    score = math.prod(row.score(tuning.goal) for row in rows.values()) if tuning is not None and scored else None
    return Plan(provider, choices, rows, threads, "", score)


def _tuned(
    bundle: Bundle,
    part: str,
    provider: Provider,
    precision: str,
    min_fidelity: float,
    threads: int,
    tuning: Tuning | None,
) -> tuple[Choice, Row] | None:
    """The best row that may be used, and what it was measured with."""
    if tuning is None:
        return None
    there = [row for row in tuning.rows if (row.part, row.provider) == (part, provider.name)]
    rows = [row for row in there if row.threads == threads] or there
    usable: list[tuple[Choice, Row]] = []
    for row in rows:
        if precision not in ("auto", row.precision):
            continue
        try:
            choice = choose_precision(bundle, part, provider, row.precision)
        except (BundleError, ProviderError):
            continue
        if precision != "auto" or is_faithful(choice, min_fidelity):
            usable.append((choice, row))
    if not usable:
        return None
    goal = tuning.goal
    choice, row = max(usable, key=lambda pair: (pair[1].score(goal), pair[1].rate))
    if precision == "auto":
        count = len({other.precision for _, other in usable})
        which = f"the fastest of {count} precisions" if count > 1 else "the only precision"
        choice = replace(
            choice,
            reason=f"{row.figure(goal)}, {which} tuned there that is fp32 or has a mean cosine of at least "
            f"{min_fidelity:g}",
        )
    return choice, row
