"""Measure which engine, precision, streams and batch are fastest on this machine: `python -m runtime tune`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from runtime.bundle import Bundle, open_bundle
from runtime.choice.decision import decide
from runtime.choice.opening import default_streams
from runtime.choice.precision import MIN_FIDELITY, Choice, choose_precision, format_cosine, is_faithful, mean_cosine
from runtime.choice.rounds import PassedOver, Search, recorded_milliseconds
from runtime.choice.tuned import GOALS, Row, Tuning, new_tuning
from runtime.choice.workload import Setting, Workbench
from runtime.engines import Provider, choose_provider, default_threads
from runtime.engines.cores import check_threads
from runtime.engines.providers import AUTO_ORDER
from runtime.errors import BundleError, InputError, ProviderError

__all__ = ["BUDGET", "Report", "tune"]

BUDGET = 120.0
# Tokens and images of one call that are tried: on processors, and on GPUs, which need more to be busy.
_BATCHES = {"text": (256, 512, 1024), "image": (1, 2, 4, 8)}
_GPU_BATCHES = {"text": (2048, 8192, 16384), "image": (4, 16, 32)}
_GPU_CALLS = 2


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes:
        tuning: the rows, in the order of their parts, the best first.
        fidelity: recorded mean cosine of (part, provider, precision); None where there is no record.
        passed_over: what was not measured, and why.
        chosen: the row of each part that `runtime.load` takes.
        reason: why their engine.
        threads: that `runtime.load` takes them with.
        seconds: that it took.
        left_out: settings that would have been tried, had the budget lasted.
    """

    tuning: Tuning
    fidelity: dict[tuple[str, str, str], float | None]
    passed_over: tuple[PassedOver, ...]
    chosen: dict[str, Row]
    reason: str
    threads: int
    seconds: float
    left_out: int


def tune(
    path: str | os.PathLike[str],
    budget: float = BUDGET,
    *,
    providers: Sequence[str] = (),
    parts: Sequence[str] = (),
    threads: Sequence[int] = (),
    min_fidelity: float = MIN_FIDELITY,
    goal: str = GOALS[0],
) -> Report:
    """Measure a bundle on this machine. Nothing is stored: see `runtime.choice.tuned.write_tuning`.

    Texts of random words, as long as reports (mean 50 tokens, 95th percentile 100), and random pixels go the way of
    bulk work; decoding of files is not measured. Settings are measured in turn, round by round; those that are clearly
    slower are dropped early.

    Args:
        path: the bundle's folder.
        budget: seconds after which nothing more is begun; what was measured until then counts.
        providers: only these engines; by default those that "auto" considers.
        parts: only these.
        threads: numbers of threads to try; by default the one that `runtime.load` takes.
        min_fidelity: smallest recorded mean cosine on that engine of what is measured; fp32 always is.
        goal: "throughput", or "latency" for the time of a single item.

    Raises:
        BundleError: no bundle, a part that it lacks, changed files.
        ProviderError: a named engine cannot run here, or none can.
        InputError: a budget that is not above 0, min_fidelity outside [0, 1], nothing could be measured.
    """
    if not budget > 0:
        raise InputError(f"budget={budget}; seconds above 0 are expected.")
    if not 0 <= min_fidelity <= 1:
        raise InputError(f"min_fidelity={min_fidelity}; a mean cosine from 0 to 1 is expected.")
    start = time.perf_counter()
    bundle = open_bundle(path)
    wanted = tuple(dict.fromkeys(parts)) or bundle.parts()
    engines = [engine for name in providers or ["auto"] for engine in choose_provider(name)]
    counts = sorted({check_threads(count) for count in threads} or {default_threads()})
    choices, passed_over = _choices(bundle, wanted, engines, min_fidelity)
    by_name = {engine.name: engine for engine in engines}
    bases = _bases(choices, by_name, counts)
    least = _least_work(wanted, engines, max(counts))
    search = Search(Workbench(bundle, choices, by_name, least), start + budget, goal)
    search.run(bases, lambda setting: _variants(setting, by_name[setting.provider]), choices)
    rows = search.rows()
    passed_over += search.failed
    if not rows:
        why = "; ".join(f"{each.part} {each.provider} {each.precision}: {each.reason}" for each in passed_over)
        raise InputError(f"Nothing could be measured in {budget:g} s. {why or 'Give it a larger budget.'}")
    tuning = new_tuning(bundle, goal, rows)
    count = default_threads() if default_threads() in counts else counts[-1]
    measured = tuple(part for part in wanted if any(row.part == part for row in rows))
    provider = "auto" if any(engine.name in AUTO_ORDER for engine in engines) else engines[0].name
    plans, _ = decide(bundle, measured, provider, {}, min_fidelity, count, tuning)
    return Report(
        tuning,
        {key: _cosine(choice) for key, choice in choices.items()},
        tuple(passed_over),
        {part: row for part in measured if (row := plans[0].row(part)) is not None},
        plans[0].reason,
        count,
        time.perf_counter() - start,
        search.left_out,
    )


def _choices(
    bundle: Bundle, parts: Iterable[str], engines: Iterable[Provider], min_fidelity: float
) -> tuple[dict[tuple[str, str, str], Choice], list[PassedOver]]:
    """What may be measured: part, provider, precision → artifact; and what may not."""
    choices: dict[tuple[str, str, str], Choice] = {}
    passed_over: list[PassedOver] = []
    for part in parts:
        for engine in engines:
            there = [artifact.precision for artifact in bundle.artifacts(part, engine.name)]
            computed = sorted(engine.from_fp32) if "fp32" in there else []
            for precision in dict.fromkeys([*there, *computed]):
                try:
                    choice = choose_precision(bundle, part, engine, precision)
                except (BundleError, ProviderError) as error:
                    passed_over.append(PassedOver(part, engine.name, precision, str(error)))
                    continue
                if is_faithful(choice, min_fidelity):
                    choices[part, engine.name, precision] = choice
                    continue
                cosine = _cosine(choice)
                found = "not recorded" if cosine is None else format_cosine(cosine)
                reason = f"its mean cosine on {engine.name} is {found}; {min_fidelity:g} is asked for"
                passed_over.append(PassedOver(part, engine.name, precision, reason))
    return choices, passed_over


def _cosine(choice: Choice) -> float | None:
    return None if choice.fidelity is None else mean_cosine(choice.fidelity)


def _bases(
    choices: Mapping[tuple[str, str, str], Choice], engines: Mapping[str, Provider], counts: Sequence[int]
) -> list[Setting]:
    """Each engine and precision as it runs untuned: each engine's fastest on record first, the parts in turn.

    So a budget that ends early has compared the engines.
    """
    by_time = sorted(choices, key=lambda key: recorded_milliseconds(choices[key]))
    first = {key: [other[:2] for other in by_time].index(key[:2]) == by_time.index(key) for key in by_time}
    by_part: dict[str, list[Setting]] = {}
    for part, name, precision in sorted(by_time, key=lambda key: not first[key]):
        by_part.setdefault(part, []).extend(
            Setting(part, name, precision, count, default_streams(engines[name], count), engines[name].batch[part])
            for count in reversed(counts)
        )
    return [setting for turn in zip_longest(*by_part.values()) for setting in turn if setting is not None]


def _variants(setting: Setting, engine: Provider) -> list[Setting]:
    """The other streams and batches of a setting."""
    streams = {1, setting.threads // 2, setting.threads} - {0} if engine.packs else {1}
    batches = (_BATCHES if engine.packs else _GPU_BATCHES)[setting.part]
    found = [
        Setting(setting.part, setting.provider, setting.precision, setting.threads, count, batch)
        for count in sorted(streams, reverse=True)
        for batch in batches
    ]
    return [each for each in found if each != setting]


def _least_work(parts: Iterable[str], engines: Sequence[Provider], threads: int) -> dict[str, int]:
    """Of each part the tokens or images that give every stream two default batches, or the largest one."""
    return {
        part: max(
            most
            for engine in engines
            for most in (
                2 * engine.batch[part] * default_streams(engine, threads),
                _BATCHES[part][-1] * threads if engine.packs else _GPU_BATCHES[part][-1] * _GPU_CALLS,
            )
        )
        for part in parts
    }
