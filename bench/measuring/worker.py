"""A process that runs cases through one contestant when it is told to: `python -m bench.measuring.worker SPEC.json`.

It opens the contestant and says so. Then each line of standard input is a JSON object, answered by one: {"case": FILE,
"answer": FILE} prepares a case, computes it, more than once where that is short, writes the answer as
.npy and says how long a pass takes; {"passes": N} times N passes of it.
Contestants so run in turn, each alone, without paying for their start.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.processes.measure import peak_bytes

__all__ = ["main"]

# A first pass this long has shown that warming up once more changes little.
_LONG_SECONDS = 1.0


def main(spec: dict[str, Any]) -> None:
    """Serve one contestant.

    Args:
        spec: "peer" and "system", its place in `bench.peers.PEERS`, and what the peer reads.
    """
    # What libraries print, from C too, must not be taken for reports.
    reports = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def report(**found: Any) -> None:
        reports.write(json.dumps(found) + "\n")
        reports.flush()

    from bench.peers import PEERS

    prepare = PEERS[spec["peer"]][spec["system"]](spec)
    report(ready=True)
    run: Callable[[], Any] = _nothing
    for line in sys.stdin:
        told = json.loads(line)
        if "case" in told:
            run = prepare(json.loads(Path(told["case"]).read_text(encoding="utf-8")))
            started = time.perf_counter()
            answer = run()
            seconds = time.perf_counter() - started
            np.save(told["answer"], answer)
            if seconds < _LONG_SECONDS:
                seconds = _timed(run)
            report(seconds=seconds)
        else:
            report(seconds=[_timed(run) for _ in range(told["passes"])], peak_bytes=peak_bytes())


def _timed(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _nothing() -> None:
    raise RuntimeError("no case was prepared")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
