"""`python -m tests.soak --minutes N [--bundle BUNDLE]`; exit status 1 where memory grew or an answer was wrong."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import runtime
from tests.soak.requests import make_requests, write_films
from tests.soak.run import soak

_MOST_GROWTH = 0.05
_SHOWN_FAULTS = 20


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description="Mixed work from several threads, for long."
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="in all (10)")
    parser.add_argument("--bundle", type=Path, help="with texts, masks and images (a small one of random weights)")
    parser.add_argument("--providers", default="cpu,openvino", help="inference engines, side by side (cpu,openvino)")
    parser.add_argument("--precision", default="fp32", help="what they compute in (fp32)")
    parser.add_argument("--threads", type=int, default=8, help="threads that ask (8)")
    parser.add_argument("--requests", type=int, default=200, help="different requests (200)")
    parser.add_argument("--gate", type=float, default=1e-5, help="largest difference from one thread's answer (1e-5)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cxr-soak-") as folder:
        bundle = options.bundle or _small_bundle(Path(folder))
        engines = {
            name: runtime.load(bundle, provider=name, precision=options.precision)
            for name in options.providers.split(",")
        }
        requests = make_requests(write_films(Path(folder) / "films"), options.requests, options.seed)
        seen = soak(
            engines, requests, options.minutes * 60, threads=options.threads, gate=options.gate, seed=options.seed
        )
    calls = sum(seen.calls.values())
    for name, count in sorted(seen.calls.items()):
        print(f"{count:9,}  {name}")
    settled = next((size for seconds, size in seen.memory if seconds >= seen.settled), seen.memory[0][1])
    print(f"{calls:,} calls from {options.threads} threads in {seen.memory[-1][0] / 60:.1f} minutes")
    print(
        f"{seen.exact / max(1, calls):.2%} of the answers are one thread's bit for bit; largest difference {seen.worst}"
    )
    print(
        f"memory: {settled / 2**20:,.0f} MiB after the first minute, {seen.memory[-1][1] / 2**20:,.0f} at the end "
        f"({seen.growth:+.1%}; medians), at most {max(size for _, size in seen.memory) / 2**20:,.0f}"
    )
    for fault in seen.faults[:_SHOWN_FAULTS]:
        print(f"FAULT {fault}")
    return 1 if seen.faults or seen.growth > _MOST_GROWTH or not calls else 0


def _small_bundle(folder: Path) -> Path:
    from export.build import export_bundle
    from export.checkpoints.random_checkpoint import write_random_checkpoint
    from tests.conftest import tiny_config, tiny_family

    checkpoint = write_random_checkpoint(folder / "checkpoint", tiny_family(), 7, tiny_config())
    export_bundle(tiny_family(), str(checkpoint), folder / "bundle")
    return folder / "bundle"


if __name__ == "__main__":
    sys.exit(main())
