"""What `bench.measuring.worker` is to the turns, without a model: answers, times and mishaps as the spec says."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
told = spec.get("fake", {})


def say(**found: object) -> None:
    print(json.dumps(found), flush=True)


def mishap(when: str) -> None:
    kind = told.get(when)
    marks = Path(told["times"]) if kind and "times" in told else None
    if marks is not None:
        # A file with the number of mishaps that are left, over all processes.
        left = int(marks.read_text())
        marks.write_text(str(left - 1))
        if left <= 0:
            return
    if kind == "crash":
        sys.exit(f"it crashed at {when}")
    if kind == "hang":
        time.sleep(600)
    if kind == "killed":
        os.kill(os.getpid(), 9)


mishap("open")
say(ready=True)
passes = 0
for line in sys.stdin:
    asked = json.loads(line)
    if "case" in asked:
        mishap("case")
        count = len(json.loads(Path(asked["case"]).read_text(encoding="utf-8"))["texts"])
        answer = np.eye(8, dtype=np.float32)[np.arange(count) % 8] + np.float32(told.get("off", 0.0))
        answer[told.get("off_from", count) :] += 1
        np.save(asked["answer"], answer[: told.get("rows", count)])
        taken = told["each"] * count if "each" in told else told.get("seconds", 0.1)
        say(seconds=taken)
    else:
        passes += 1
        if passes > told.get("good_rounds", 99):
            mishap("round")
        say(seconds=[taken] * asked["passes"], peak_bytes=1000 + passes)
