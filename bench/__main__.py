"""The command line: `python -m bench cold-start`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from bench.measure import PeerError, compare_processes
from bench.peers import ENGINE_TEXT, TRANSFORMERS_TEXT
from runtime.errors import CxrEngineError

_TEXT = "There is no pneumothorax or pleural effusion"
_TOLERANCE = 1e-5


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status: 0 done, 1 failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure this engine beside its alternatives.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    cold = commands.add_parser(
        "cold-start",
        help="seconds from process start to the first text embedding, and peak memory, beside transformers and torch",
    )
    cold.add_argument("--bundle", type=Path, help="a bundle (default: exported from the checkpoint, then deleted)")
    cold.add_argument("--checkpoint", type=Path, help="its checkpoint folder (default: random weights, then deleted)")
    cold.add_argument("--provider", default="cpu", help="engine (cpu)")
    cold.add_argument("--rounds", type=int, default=5, help="counted runs of each (5)")
    cold.add_argument("--json", action="store_true", help="print JSON with all samples")
    options = parser.parse_args(arguments)
    if options.bundle and not options.checkpoint:
        parser.error("--bundle needs its --checkpoint: without the same weights nothing can be compared")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    work = Path(tempfile.mkdtemp(prefix="cxr-bench-"))
    try:
        _cold_start(options, work)
    except (CxrEngineError, PeerError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


def _cold_start(options: argparse.Namespace, work: Path) -> None:
    checkpoint, bundle = _prepare(options, work)
    scripts = {
        f"this engine ({options.provider}, fp32)": (ENGINE_TEXT, [str(bundle), options.provider, _TEXT]),
        "transformers + torch (fp32)": (TRANSFORMERS_TEXT, [str(checkpoint), _TEXT]),
    }
    samples, difference = compare_processes(scripts, options.rounds, _TOLERANCE)
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


def _prepare(options: argparse.Namespace, work: Path) -> tuple[Path, Path]:
    """The checkpoint and its bundle; made in a process of their own, so that nothing of torch stays in this one."""
    import subprocess

    checkpoint, bundle = options.checkpoint, options.bundle
    if checkpoint is None:
        checkpoint = work / "checkpoint"
        code = (
            "import sys; from pathlib import Path; from export.families import FAMILIES; "
            "from export.random_checkpoint import write_random_checkpoint; "
            "write_random_checkpoint(Path(sys.argv[1]), FAMILIES['cxr-bert-specialized'])"
        )
        subprocess.run([sys.executable, "-c", code, str(checkpoint)], check=True)
    if bundle is None:
        bundle = work / "bundle"
        command = ["cxr-bert-specialized", "--checkpoint", str(checkpoint), "--out", str(bundle)]
        exported = subprocess.run([sys.executable, "-m", "export", *command], stdout=subprocess.DEVNULL, check=False)
        if exported.returncode:
            raise PeerError("the checkpoint could not be exported")
    return checkpoint, bundle


if __name__ == "__main__":
    sys.exit(main())
