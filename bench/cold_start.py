"""From process start to the first text embedding."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from bench.measure import PeerError, compare_processes
from bench.peers import ENGINE_TEXT, TRANSFORMERS_TEXT

__all__ = ["prepare", "run"]

_TEXT = "There is no pneumothorax or pleural effusion"
# Largest difference of a component. int8 of random weights is not faithful, only recognizable.
_TOLERANCES = {"fp32": 1e-5}
_TOLERANCE = 0.1


def run(options: argparse.Namespace, work: Path) -> None:
    """Measure and print."""
    checkpoint, bundle = prepare(options.checkpoint, options.bundle, options.family, options.precision, work)
    engine = [str(bundle), options.provider, options.precision, _TEXT]
    scripts = {
        f"this engine ({options.provider}, {options.precision})": (ENGINE_TEXT, engine),
        "transformers + torch (fp32)": (TRANSFORMERS_TEXT, [str(checkpoint), _TEXT]),
    }
    tolerance = _TOLERANCES.get(options.precision, _TOLERANCE)
    samples, difference = compare_processes(scripts, options.rounds, tolerance)
    if options.json:
        report = {
            "machine": f"{platform.machine()}, {os.cpu_count()} processors",
            "largest_difference": difference,
            "samples": {
                each.name: [{"seconds": run.seconds, "peak_bytes": run.peak_bytes} for run in each.runs]
                for each in samples
            },
        }
        print(json.dumps(report, indent=2))
        return
    ours, theirs = samples
    print(f"process start → first text embedding, medians of {options.rounds} interleaved runs, warm disk")
    for each in samples:
        low, high = min(run.seconds for run in each.runs), max(run.seconds for run in each.runs)
        print(f"  {each.name:30} {each.seconds:6.2f} s ({low:.2f}–{high:.2f})   peak {each.peak_bytes / 1e6:7.0f} MB")
    print(
        f"  ratio: {theirs.seconds / ours.seconds:.1f} × sooner, {ours.peak_bytes / theirs.peak_bytes:.0%} of the "
        f"memory; the embeddings agree within {difference:.1e}"
    )


def prepare(checkpoint: Path | None, bundle: Path | None, family: str, precision: str, work: Path) -> tuple[Path, Path]:
    """The checkpoint and its bundle; made in processes of their own, so that nothing of torch stays in this one.

    Args:
        checkpoint: None writes random weights.
        bundle: None exports the checkpoint.
        family: of `export.families.FAMILIES`.
        precision: that the bundle must have beside fp32.
        work: folder for what is made.

    Raises:
        PeerError: the checkpoint cannot be exported.
    """
    if checkpoint is None:
        checkpoint = work / "checkpoint"
        code = (
            "import sys; from pathlib import Path; from export.families import FAMILIES; "
            "from export.random_checkpoint import write_random_checkpoint; "
            "write_random_checkpoint(Path(sys.argv[1]), FAMILIES[sys.argv[2]])"
        )
        if subprocess.run([sys.executable, "-c", code, str(checkpoint), family], check=False).returncode:
            raise PeerError("a checkpoint of random weights could not be written")
    if bundle is None:
        bundle = work / "bundle"
        command = [family, "--checkpoint", str(checkpoint), "--out", str(bundle), "--precision"]
        command.append("fp32" if precision == "auto" else ",".join(dict.fromkeys(("fp32", precision))))
        exported = subprocess.run([sys.executable, "-m", "export", *command], stdout=subprocess.DEVNULL, check=False)
        if exported.returncode:
            raise PeerError("the checkpoint could not be exported")
    return checkpoint, bundle
