"""A process that computes one contestant's workload whenever it is told to: `python -m bench.worker SPEC.json`.

It prepares itself, computes once, saves the answer to a file and says so; then each line on standard input starts a
pass, and its seconds go to standard output. Contestants so run in turn, each alone, without paying for their start.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main"]


def main(spec: dict[str, Any]) -> None:
    """Serve one contestant.

    Args:
        spec: "peer", its name in `bench.peers.PEERS`; "answer", the .npy file to write; and what the peer reads.
    """
    from bench.peers import PEERS

    # What libraries print, from C too, must not be taken for reports.
    reports = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    run = PEERS[spec["peer"]](spec)
    np.save(spec["answer"], run())
    print(json.dumps({"ready": True}), file=reports, flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        run()
        print(json.dumps({"seconds": time.perf_counter() - started}), file=reports, flush=True)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
