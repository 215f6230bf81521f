"""`python -m tests.fuzz --minutes N`: every property under Atheris, on all cores, with a corpus that stays.

What was tried and found is printed as a table. The exit status is 1 where something was found; each finding's input
lies in CORPUS/findings, and `--replay FILE PROPERTY` shows it again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.property import Property

ROOT = Path(__file__).resolve().parents[2]
_SHORTEST_SLICE = 20.0
_LONGEST_SLICE = 300.0
_SEEDED_BUFFERS = 64
_SECONDS_PER_INPUT = 60
_MEBIBYTES = 3000
_LONGEST_INPUT = 16384
_MOST_FINDINGS = 20


@dataclass
class Tally:
    """What became of one property."""

    inputs: int = 0
    seconds: float = 0.0
    coverage: int = 0
    findings: dict[str, Path] = field(default_factory=dict)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="PROPERTY", help="all of them, if none is named")
    parser.add_argument("--minutes", type=float, default=10.0, help="in all, on the clock (10)")
    parser.add_argument(
        "--corpus", type=Path, default=ROOT / ".cache" / "fuzz", help="folder that keeps inputs (.cache/fuzz)"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="side by side (all processors)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try one input of one property again")
    options = parser.parse_args()
    properties = _properties()
    unknown = [name for name in options.names if name not in properties]
    if unknown:
        parser.error(f"there is no property {', '.join(unknown)}; there are: {', '.join(properties)}")
    names = options.names or list(properties)
    if options.replay:
        return _replay(names[0], properties[names[0]], options.replay)
    tallies = _fuzz({name: properties[name] for name in names}, options.minutes * 60, options.corpus, options.processes)
    print(_table(tallies))
    return 1 if any(tally.findings for tally in tallies.values()) else 0


def _properties() -> dict[str, Property]:
    from tests.fuzz.properties import find_properties

    return dict(find_properties())


def _fuzz(properties: dict[str, Property], seconds: float, corpus: Path, processes: int) -> dict[str, Tally]:
    """Slices of time in turn, each property's one after the other."""
    tallies = {name: Tally() for name in properties}
    share = seconds * processes / len(properties)
    piece = min(max(share / max(1, round(share / _LONGEST_SLICE)), _SHORTEST_SLICE), _LONGEST_SLICE)
    end = time.monotonic() + seconds
    turn, lock = list(properties), threading.Lock()
    (corpus / "findings").mkdir(parents=True, exist_ok=True)
    for name, each in properties.items():
        _sow(corpus / name, each)

    def work() -> None:
        while (left := end - time.monotonic()) > 1:
            with lock:
                if not turn:
                    return
                name = turn.pop(0)
            length = min(piece, left)
            try:
                _run(name, tallies[name], corpus, length)
            finally:
                with lock:
                    if len(tallies[name].findings) < _MOST_FINDINGS:
                        turn.append(name)
            total = sum(tally.inputs for tally in tallies.values())
            print(
                f"{name}: {tallies[name].inputs:,} inputs, {len(tallies[name].findings)} findings; {total:,} in all",
                flush=True,
            )

    with ThreadPoolExecutor(processes) as pool:
        for done in [pool.submit(work) for _ in range(processes)]:
            done.result()
    return tallies


def _sow(folder: Path, each: Property) -> None:
    """Seeds of the property, or buffers for Hypothesis to draw from: short ones would end before there is an input."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    seeds = (
        each.seeds()
        if each.strategy is None
        else [draw.randbytes(1 << draw.randint(6, 12)) for _ in range(_SEEDED_BUFFERS)]
    )
    for seed in seeds:
        (folder / hashlib.sha1(seed).hexdigest()).write_bytes(seed)


def _run(name: str, tally: Tally, corpus: Path, seconds: float) -> None:
    """One process; what it found is kept under the fault's name, and passed over from then on."""
    counter, known = corpus / f"{name}.count", corpus / f"{name}.known"
    counter.write_bytes(bytes(8))
    known.write_text("\n".join(tally.findings), encoding="utf-8")
    prefix = corpus / "findings" / f"{name}-"
    limits = {"max_total_time": round(seconds), "timeout": _SECONDS_PER_INPUT, "rss_limit_mb": _MEBIBYTES}
    limits |= {"max_len": _LONGEST_INPUT, "print_final_stats": 1}
    options = [f"-{key}={value}" for key, value in limits.items()] + ["-len_control=0", f"-artifact_prefix={prefix}"]
    started = time.monotonic()
    arguments = [sys.executable, "-m", "tests.fuzz.child", name, str(counter), str(known), str(corpus / name), *options]
    process = subprocess.run(arguments, cwd=ROOT, capture_output=True, check=False)
    output = process.stderr.decode("utf-8", "replace")
    tally.seconds += time.monotonic() - started
    tally.inputs += struct.unpack("<q", counter.read_bytes())[0]
    covered = re.findall(r"cov: (\d+)", output)
    tally.coverage = max(tally.coverage, int(covered[-1]) if covered else 0)
    if process.returncode == 0:
        return
    faults = re.findall(r"FOUND (.+)", output)
    written = re.findall(r"Test unit written to (.+)", output)
    fault = faults[-1] if faults else f"exit status {process.returncode}: {_last_words(output)}"
    tally.findings[fault] = Path(written[-1]) if written else prefix
    print(f"{name}: {fault}\n{output[-1500:]}", flush=True)


def _last_words(output: str) -> str:
    lines = [line for line in output.splitlines() if "ERROR" in line or "Error" in line]
    return (lines or output.splitlines() or ["no word"])[-1].strip()


def _replay(name: str, each: Property, file: Path) -> int:
    """Raise what the input raises."""
    data = file.read_bytes()
    if each.strategy is None:
        each.check(data)
    else:
        from hypothesis import given, settings

        settings(database=None, deadline=None)(given(each.strategy)(each.check)).hypothesis.fuzz_one_input(data)
    print("Nothing was raised.")
    return 0


def _table(tallies: dict[str, Tally]) -> str:
    lines = ["| property | inputs | a second | coverage | findings |", "|---|---:|---:|---:|---:|"]
    for name, tally in tallies.items():
        rate = tally.inputs / tally.seconds if tally.seconds else 0
        lines.append(f"| {name} | {tally.inputs:,} | {rate:,.0f} | {tally.coverage:,} | {len(tally.findings)} |")
    lines.append(f"| all | {sum(tally.inputs for tally in tallies.values()):,} | | | |")
    for name, tally in tallies.items():
        lines += [f"{name}: {fault} ({path})" for fault, path in tally.findings.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
