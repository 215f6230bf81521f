"""The load client's process: `python -m bench.serving.load.worker`.

Each line of standard input is a `Plan`; when it is done, its outcome lies in the file that it names, and a line of JSON
says so.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from bench.serving.load.loops import run_plan
from bench.serving.load.outcome import Outcome
from bench.serving.load.plan import Plan

__all__ = ["main"]


def main() -> None:
    """Do what standard input says until it ends."""
    reports = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def report(**found: Any) -> None:
        reports.write(json.dumps(found) + "\n")
        reports.flush()

    report(ready=True)
    # A collection would stand between a request and its time.
    gc.disable()
    for line in sys.stdin:
        plan = Plan.read(line)
        blob, requests, place = Path(plan.requests).read_bytes(), [], 0
        for length in plan.lengths:
            requests.append(blob[place : place + length])
            place += length
        computed = time.process_time()
        records = asyncio.run(run_plan(plan, requests))
        outcome = Outcome.made_of(records, time.process_time() - computed)
        outcome.save(Path(plan.outcome))
        report(requests=len(records))
        gc.collect()


if __name__ == "__main__":
    main()
