"""`python -m bench loadgen --bundle B`: MLPerf LoadGen's scenarios against the public runtime."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.loadgen.logs import check_logs
from bench.loadgen.processes import check_installed, loadgen_runs
from bench.loadgen.scenarios import ACCURACY, MODES, SCENARIOS, chosen
from bench.loadgen.spec import Spec
from bench.loadgen.systems import SYSTEMS
from bench.record import LoadGenRun
from runtime.bundle import open_bundle
from runtime.commands.argument_types import count, positive, seed
from runtime.commands.arguments import add_force, add_json
from runtime.engines import default_threads
from runtime.process import print_json, print_note, print_result
from runtime.process.wording import counted

__all__ = ["NAME", "SUMMARY", "add_options", "run"]

NAME = "loadgen"
SUMMARY = "MLPerf LoadGen's scenarios, performance and accuracy, against the public runtime"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    bounds = ", ".join(f"{name} {1000 * system.bound_seconds:g}" for name, system in SYSTEMS.items())
    parser.add_argument("--bundle", type=Path, required=True, help="folder written by python -m export")
    parser.add_argument("--system", default="all", help=f"{', '.join(SYSTEMS)}, or all that the bundle has (all)")
    parser.add_argument("--scenario", default="all", help=f"{', '.join(SCENARIOS)} or all (all)")
    parser.add_argument("--mode", default="both", choices=[*MODES, "both"], help="what to run (both)")
    parser.add_argument("--provider", default="auto", help="engine, as for runtime.load (auto)")
    parser.add_argument("--precision", default="auto", help="as for runtime.load (auto)")
    parser.add_argument("--threads", type=count, default=default_threads(), help="of the engine (all cores)")
    parser.add_argument("--seconds", type=positive, default=5.0, help="of a short performance run (5)")
    parser.add_argument(
        "--official",
        action="store_true",
        help="the rules' durations (600 s), counts and seeds; accuracy of the whole library",
    )
    parser.add_argument(
        "--target-qps", type=positive, help="Server's mean rate of arrivals (found: half of Offline's, then lower)"
    )
    parser.add_argument("--bound-ms", type=positive, help=f"on Server's 99th percentile, in milliseconds ({bounds})")
    parser.add_argument("--seed", type=seed, default=0, help="of the samples and of LoadGen's choices (0)")
    parser.add_argument("--logs", type=Path, metavar="DIR", help="keep LoadGen's logs there")
    add_force(parser)
    add_json(parser, " with the latencies of all queries")


def run(options: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        1 if an accuracy gate is missed, or with --official a run is invalid; else 0.

    Raises:
        PeerError: an unknown system or scenario, LoadGen is not installed, a process failed or hung.
        BundleError: there is no bundle, or it lacks the system.
        InputError: logs would overwrite files that LoadGen did not write.
    """
    scenarios = chosen(options.scenario, SCENARIOS, "scenario")
    systems: Sequence[str] = chosen(options.system, SYSTEMS, "system")
    check_installed()
    bundle = open_bundle(options.bundle)
    if options.system == "all":
        systems = bundle.parts()
    for system in systems:
        bundle.artifacts(system)  # raises for a part that the bundle lacks
    if options.logs:
        check_logs(options.logs, systems, options.bundle, options.force)
    modes = MODES if options.mode == "both" else (options.mode,)
    found: list[LoadGenRun] = []
    for system in systems:
        for each in loadgen_runs(_spec(options, system, [(name, mode) for mode in modes for name in scenarios])):
            found.append(each)
            print_note(f"  {each.system} {each.scenario} {each.mode}: done")
    if options.json:
        print_json([asdict(each) for each in found], indent=1)
    else:
        _print(found)
    missed = any(each.passed is False for each in found)
    invalid = options.official and any(each.valid is False for each in found)
    return int(missed or invalid)


def _spec(options: argparse.Namespace, system: str, runs: list[tuple[str, str]]) -> Spec:
    return Spec(
        bundle=str(options.bundle),
        contestant=f"engine-{options.provider}-{options.precision}",
        provider=options.provider,
        precision=options.precision,
        system=system,
        runs=runs,
        threads=options.threads,
        official=options.official,
        seconds=options.seconds,
        target_qps=options.target_qps,
        bound_seconds=options.bound_ms and options.bound_ms / 1000,
        seed=options.seed,
        logs="" if options.logs is None else str(options.logs.resolve()),
    )


def _print(runs: Sequence[LoadGenRun]) -> None:
    widths = (6, 13, 24)
    head = " ".join(title.ljust(width) for title, width in zip(("system", "scenario", "engine"), widths, strict=True))
    print_result(f"{head} result")
    for each in runs:
        cells = (each.system, each.scenario, each.contestant)
        row = " ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        print_result(f"{row} {_accuracy(each) if each.mode == ACCURACY else _performance(each)}")
        if each.reason:
            print_result(f"{'':{sum(widths) + 3}}LoadGen: {each.reason}")


def _performance(run: LoadGenRun) -> str:
    value = f"{1000 * run.value:.1f} ms" if run.unit == "s" else f"{run.value:.1f}"
    length = "official" if run.official else f"short, {run.settings['min_seconds']:g} s"
    told = ""
    if "target_qps" in run.settings:
        bound = 1000 * run.settings["bound_seconds"]
        told = f" at {run.settings['target_qps']:.1f} arrivals a second, p99 within {bound:g} ms"
    queries = counted(int(run.settings["queries"]), "query", "queries")
    return f"{value} {run.metric}{told}; {'VALID' if run.valid else 'INVALID'} ({length}, {queries})"


def _accuracy(run: LoadGenRun) -> str:
    verdict = {True: "passed", False: "FAILED", None: "reported only"}[run.passed]
    figures = ""
    if run.fidelity:
        exact = run.fidelity
        figures = f"mean cosine {exact.mean_cosine:.5f}, min {exact.min_cosine:.5f}, max abs {exact.max_abs:.1e}; "
    return f"accuracy {verdict}: {figures}{run.gate} ({int(run.settings['samples'])} samples)"
