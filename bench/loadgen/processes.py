"""LoadGen's runs, each engine in a process of its own that is ended when it hangs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from bench.errors import PeerError
from bench.loadgen.scenarios import ACCURACY, MODES, PERFORMANCE, SCENARIOS
from bench.loadgen.spec import Spec
from bench.loadgen.systems import SYSTEMS
from bench.record import Fidelity, LoadGenRun
from bench.record.report import Contestant
from runtime.bundle import open_bundle

__all__ = ["HANG_SECONDS", "check_installed", "loadgen_runs", "run_loadgen", "short_runs"]

# Without a sign of life. One call has up to 512 texts, and an engine may take minutes to build.
HANG_SECONDS = 300.0
_LOOK_SECONDS = 0.1
_SAID = 2000


def run_loadgen(
    bundle: Path,
    contestant: Contestant,
    system: str,
    scenario: str,
    mode: str,
    *,
    threads: int,
    official: bool,
    seconds: float,
    target_qps: float | None,
    bound_seconds: float | None,
    seed: int,
    logs: Path | None,
) -> LoadGenRun:
    """Run LoadGen once against the public runtime, in a process of its own.

    Args:
        bundle: folder written by `python -m export`.
        contestant: whose provider and precision are loaded; "auto" for either is named by what it comes to.
        system: "text" or "image".
        scenario: a key of `SCENARIOS`.
        mode: "performance" or "accuracy".
        threads: of the engine.
        official: the rules' 600 s, counts and seeds; the accuracy of the whole library.
        seconds: of a performance run that is not official; Server takes up to twice as long where that makes enough
            queries to be valid.
        target_qps: mean rate of Server's arrivals; None looks for one: half of what Offline does, and less until the
            99th percentile keeps the bound.
        bound_seconds: of that percentile; None takes 0.130 for texts (MLPerf's BERT) and 0.500 for images.
        seed: of the samples, and of LoadGen's choices where they are not official.
        logs: folder for LoadGen's logs, in one of each run; None deletes them.

    Returns:
        The run. Its latencies are those of all queries, from when each was due until it was answered, as LoadGen
        measured them; of Offline, which is a single query, one. An invalid run is returned with the reason.

    Raises:
        PeerError: an unknown system, scenario or mode, LoadGen is not installed, or the process failed or hung; the
            message ends with what it said.
    """
    (found,) = loadgen_runs(
        _spec(
            bundle,
            contestant,
            logs,
            system=system,
            runs=[(scenario, mode)],
            threads=threads,
            official=official,
            seconds=seconds,
            target_qps=target_qps,
            bound_seconds=bound_seconds,
            seed=seed,
        )
    )
    return found


def short_runs(
    bundle: Path,
    contestant: Contestant,
    threads: int,
    seconds: float = 5.0,
    *,
    seed: int = 0,
    logs: Path | None = None,
) -> Iterator[LoadGenRun]:
    """Every scenario in both modes on every system of the bundle, in one process for each system.

    Args:
        bundle: folder written by `python -m export`.
        contestant: whose provider and precision are loaded.
        threads: of the engine.
        seconds: of a performance run; see `run_loadgen`.
        seed: of the samples and of LoadGen's choices.
        logs: folder for LoadGen's logs; None deletes them.

    Yields:
        Runs as they end: performance of all scenarios, then accuracy; texts, then images.

    Raises:
        PeerError: as for `run_loadgen`; what was yielded before stands.
        BundleError: there is no bundle.
    """
    plan = [(scenario, mode) for mode in (PERFORMANCE, ACCURACY) for scenario in SCENARIOS]
    for system in open_bundle(bundle).parts():
        yield from loadgen_runs(
            _spec(
                bundle,
                contestant,
                logs,
                system=system,
                runs=plan,
                threads=threads,
                official=False,
                seconds=seconds,
                target_qps=None,
                bound_seconds=None,
                seed=seed,
            )
        )


def _spec(bundle: Path, contestant: Contestant, logs: Path | None, **told: Any) -> Spec:
    return Spec(
        bundle=str(bundle),
        contestant=contestant.name,
        provider=contestant.provider or "auto",
        precision=contestant.precision,
        logs="" if logs is None else str(logs),
        **told,
    )


def loadgen_runs(spec: Spec, hang_seconds: float = HANG_SECONDS) -> Iterator[LoadGenRun]:
    """Run what a specification asks for in one process, and give each run as it ends.

    Args:
        spec: without "results" and "alive"; "logs" may be empty.
        hang_seconds: after so long without a sign of life the process is ended.

    Raises:
        PeerError: as for `run_loadgen`.
    """
    _check(spec)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cxr-loadgen-")))
        results, alive, file = folder / "results.jsonl", folder / "alive", folder / "spec.json"
        told = replace(spec, results=str(results), alive=str(alive), logs=spec.logs or str(folder / "logs"))
        file.write_text(told.to_json(), encoding="utf-8")
        command = [sys.executable, "-m", "bench.loadgen.worker", str(file)]
        ended = 0
        for line in follow(command, results, alive, f"LoadGen on {spec.system}", hang_seconds):
            ended += 1
            yield _run(json.loads(line))
        if ended != len(spec.runs):
            raise PeerError(f"LoadGen on {spec.system} ended after {ended} of {len(spec.runs)} runs without a word")


def follow(command: Sequence[str], results: Path, alive: Path, name: str, hang_seconds: float) -> Iterator[str]:
    """Start a process and give the lines that it adds to a file.

    Args:
        command: of the process.
        results: the file; it need not exist yet.
        alive: the file whose time of change is the process's sign of life; it is made here.
        name: for messages.
        hang_seconds: after so long without one the process is ended.

    Raises:
        PeerError: the process failed or was ended; the message has the end of what it said.
    """
    alive.touch()
    results.touch()
    seen = time.monotonic()
    changed = alive.stat().st_mtime_ns
    with ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace"))
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        # Also when the caller stops in the middle.
        stack.callback(process.wait)
        stack.callback(process.kill)
        lines = stack.enter_context(results.open(encoding="utf-8"))
        status = None
        while status is None:
            status = _wait(process)
            yield from _whole_lines(lines)
            if alive.stat().st_mtime_ns != changed:
                seen, changed = time.monotonic(), alive.stat().st_mtime_ns
            elif status is None and time.monotonic() - seen > hang_seconds:
                process.kill()
                process.wait()
                said = _said(errors, "nothing")
                raise PeerError(f"{name}: ended after {hang_seconds:g} s without a sign of life; it said last: {said}")
        if status:
            raise PeerError(f"{name}: {_said(errors, f'exit status {status}')}")


def check_installed() -> None:
    """See that there is a LoadGen.

    Raises:
        PeerError: there is none; the message says how to install it.
    """
    if importlib.util.find_spec("mlperf_loadgen") is None:
        raise PeerError("mlcommons-loadgen is not installed. Install it with: pip install 'cxr-engine[bench]'")


def _check(spec: Spec) -> None:
    """See that a specification can be run; raises PeerError."""
    known: list[tuple[str, Mapping[str, object], str]] = [(spec.system, SYSTEMS, "system")]
    known += [(scenario, SCENARIOS, "scenario") for scenario, _ in spec.runs]
    known += [(mode, dict.fromkeys(MODES), "mode") for _, mode in spec.runs]
    for name, table, what in known:
        if name not in table:
            raise PeerError(f"there is no {what} '{name}'; there are: {', '.join(table)}")
    for value, what in ((spec.seconds, "seconds"), (spec.target_qps, "target_qps"), (spec.bound_seconds, "bound")):
        if value is not None and not 0 < value < float("inf"):
            raise PeerError(f"{what} is {value}; a number above 0 is expected")
    if spec.seed < 0:
        raise PeerError(f"seed is {spec.seed}; at least 0 is expected")
    check_installed()


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(_LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _whole_lines(lines: IO[str]) -> Iterator[str]:
    """Lines that are there already, without the beginning of one that is being written."""
    while True:
        start = lines.tell()
        line = lines.readline()
        if not line.endswith("\n"):
            lines.seek(start)
            return
        yield line


def _said(errors: IO[str], silent: str) -> str:
    """The end of what a process said, or what stands for silence."""
    errors.seek(0)
    return errors.read().strip()[-_SAID:] or silent


def _run(content: dict[str, Any]) -> LoadGenRun:
    fidelity = content["fidelity"]
    return LoadGenRun(**{**content, "fidelity": Fidelity(**fidelity) if fidelity else None})
