"""`python -m bench serve BUNDLE`: what the server costs and what it withstands, beside the engine and other servers."""

from __future__ import annotations

import argparse
import shlex
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from bench.errors import PeerError
from bench.processes.machine import describe_machine, versions
from bench.serving.peers.entries import PEERS
from bench.serving.report import NAMES, ServeReport, write_report
from bench.serving.result import FAILED, SKIPPED, Result
from bench.serving.scenarios import SCENARIOS, Scenario
from bench.serving.setting import Setting
from runtime.bundle import open_bundle
from runtime.commands.argument_types import count, names, positive, seed
from runtime.commands.arguments import add_force
from runtime.commands.command_line import INTERRUPTED
from runtime.errors import CxrEngineError
from runtime.files import check_destinations
from runtime.process import print_note, print_result

__all__ = ["NAME", "SUMMARY", "add_options", "run"]

NAME = "serve"
_SAID = 400
SUMMARY = "what the server costs and withstands: throughput, latency, overload, chaos, other servers"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "scenarios:\n" + "\n".join(f"  {name:15} {each.summary}" for name, each in SCENARIOS.items())
    parser.add_argument("bundle", type=Path, help="folder written by python -m export")
    parser.add_argument("--scenarios", type=names, default=(), metavar="LIST", help="these alone (default: all)")
    parser.add_argument("--peers", type=names, default=(), metavar="LIST", help=f"of {', '.join(PEERS)} (default: all)")
    parser.add_argument("--out", type=Path, help="folder for serve.json, serve.md and serve.html (default: none)")
    parser.add_argument("--provider", default="auto", help="engine of the server, as for runtime.load (auto)")
    parser.add_argument("--precision", default="auto", help="as for runtime.load (auto)")
    parser.add_argument("--threads", type=count, help="of the engine (all processors)")
    parser.add_argument("--seconds", type=positive, default=30.0, help="that a load lasts (30)")
    parser.add_argument("--rounds", type=count, default=5, help="of comparisons made in turn (5)")
    parser.add_argument("--requests", type=count, default=10_000, help="of the long mixture of all kinds (10000)")
    parser.add_argument("--texts", type=count, default=512, help="different texts that are sent (512)")
    parser.add_argument("--second", type=Path, help="another bundle of the same system, for the reload under load")
    parser.add_argument("--seed", type=seed, default=0, help="of what is drawn at random (0)")
    parser.add_argument(
        "--server-options", default="", help="further options of python -m runtime serve, in one string"
    )
    add_force(parser)


def run(options: argparse.Namespace) -> int:
    """Run the scenarios one after the other, print their figures, write the report.

    Returns:
        1 if a goal was missed or a scenario failed; 130 if it was interrupted: what was measured is written; else 0.

    Raises:
        PeerError: there is no scenario of a name.
        BundleError: there is no bundle.
        InputError: a file of the report is in the way.
    """
    chosen = {name: SCENARIOS[name] for name in _chosen(options.scenarios, SCENARIOS, "scenario")}
    _chosen(options.peers, PEERS, "peer")
    parts = open_bundle(options.bundle).parts()
    if options.out:
        files = {f"--out {name}": options.out / name for name in NAMES}
        check_destinations(files, [], sealed=[options.bundle], force=options.force)
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="cxr-serve-") as work:
        setting = Setting(
            bundle=options.bundle,
            work=Path(work),
            provider=options.provider,
            precision=options.precision,
            threads=options.threads,
            seconds=options.seconds,
            rounds=options.rounds,
            seed=options.seed,
            server_options=shlex.split(options.server_options),
            second=options.second,
            requests=options.requests,
            texts=options.texts,
            peers=options.peers,
        )
        results: list[Result] = []
        interrupted = False
        try:
            for name, scenario in chosen.items():
                results.append(_run(name, scenario, setting, parts))
                _print(results[-1])
        except KeyboardInterrupt:
            interrupted = True
            results += [Result(name, status=SKIPPED, reason="interrupted") for name in list(chosen)[len(results) :]]
        report = ServeReport(
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            command=_command(options),
            machine=machine,
            versions=versions(),
            settings=_settings(setting),
            results=results,
        )
    if options.out:
        for file in write_report(report, options.out, options.force):
            print_note(f"wrote {file}")
    return INTERRUPTED if interrupted else int(any(result.missed for result in results))


def _chosen(asked: Sequence[str], known: Iterable[str], what: str) -> list[str]:
    """Those asked for, in the table's order; all where none is."""
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise PeerError(f"there is no {what} '{unknown[0]}'; there are: {', '.join(known)}")
    return [name for name in known if not asked or name in asked]


def _run(name: str, scenario: Scenario, setting: Setting, parts: Sequence[str]) -> Result:
    lacking = [part for part in scenario.parts if part not in parts]
    if lacking:
        return Result(name, status=SKIPPED, reason=f"the bundle has no {lacking[0]} part")
    print_note(f"{name}: {scenario.summary}")
    started = time.perf_counter()
    try:
        found = scenario.run(setting)
    except (PeerError, CxrEngineError) as error:
        found = Result(name, status=FAILED, reason=str(error))
    return replace(found, seconds=time.perf_counter() - started)


def _print(result: Result) -> None:
    if result.reason:
        print_result(f"{result.scenario}: {result.status}: {result.reason[-_SAID:]}")
    for figure in result.figures:
        verdict = {None: "", True: "  met", False: "  MISSED"}[figure.met]
        goal = f"  (goal {figure.shown_goal()})" if figure.goal is not None else ""
        note = f"  {figure.note}" if figure.note else ""
        print_result(f"{result.scenario:15} {figure.what:36} {figure.shown():>16}{goal}{verdict}{note}")


def _settings(setting: Setting) -> dict[str, object]:
    engine = setting.engine
    return {
        "family": engine.manifest.family,
        "weights": engine.manifest.source.name,
        "provider": engine.provider,
        "precision": ", ".join(f"{part} {precision}" for part, precision in engine.precision.items()),
        "threads": setting.threads or "all processors",
        "seconds": setting.seconds,
        "rounds": setting.rounds,
        "requests of the mixture": setting.requests,
        "texts": setting.texts,
        "seed": setting.seed,
        "server options": " ".join(setting.server_options) or "none",
    }


def _command(options: argparse.Namespace) -> str:
    """The command line that gives this run again; where the bundle lies is the reader's affair."""
    words = ["python", "-m", "bench", "serve", "BUNDLE"]
    for name in ("provider", "precision", "threads", "seconds", "rounds", "requests", "texts", "seed"):
        value = getattr(options, name)
        if value is not None:
            words += [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
    for name in ("scenarios", "peers"):
        if getattr(options, name):
            words += [f"--{name}", ",".join(getattr(options, name))]
    if options.second:
        words += ["--second", "OTHER-BUNDLE"]
    if options.server_options:
        words += ["--server-options", options.server_options]
    return shlex.join(words)
