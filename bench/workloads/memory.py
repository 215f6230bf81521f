"""Resident memory while very many texts and images are embedded."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence

from bench.errors import PeerError
from bench.measuring import Entry
from bench.processes import Child
from bench.record import FAILED, MEASURED, Case, Row
from runtime.bundle import Bundle

__all__ = ["measure_memory", "memory_case"]

# Requests and images before the first look: buffers and kernels are there then.
_SOME = 100
_SECONDS = 3600.0

_SCRIPT = """
import gc, json, sys
import numpy as np
import runtime
told = json.loads(sys.argv[1])
some = min(told["some"], told["requests"])
engine = runtime.load(told["bundle"], told["provider"], told["precision"], told["threads"], text_cache=0)
rng = np.random.default_rng(0)
def report():
    gc.collect()
    with open("/proc/self/status") as status:
        held = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))
    print(json.dumps({"resident": held}), flush=True)
def request():
    # One text, or some, or enough for the session of bulk work.
    count = int(rng.choice([1, 1, 1, 1, 2, 8, 32, 200], p=[.3, .2, .2, .1, .1, .05, .045, .005]))
    most = rng.choice([20, 60, 500], count, p=[.7, .28, .02])
    engine.text.encode(["1 " * int(rng.integers(1, 1 + words)) for words in most])
def images(count):
    if "image" not in told["parts"]:
        return
    sizes = rng.integers(480, 900, (count, 2))
    for _ in engine.image.encode_iter(rng.integers(0, 256, size.tolist()).astype(np.uint8) for size in sizes):
        pass
engine.text.encode(["1 " * int(n) for n in rng.integers(1, 400, 200)])
for _ in range(some):
    request()
images(min(some, told["images"]))
report()
for part in range(10):
    for _ in range(told["requests"] // 10):
        request()
    report()
images(told["images"])
report()
"""
_LOOKS = 12


def measure_memory(
    case: Case,
    entries: Sequence[Entry],
    bundle: Bundle,
    threads: int,
    requests: int,
    images: int,
    progress: Callable[[str], None],
) -> None:
    """Watch one contestant after the other.

    Args:
        case: gets its rows as they are measured.
        entries: of this engine.
        bundle: what they load.
        threads: of each.
        requests: of mixed lengths.
        images: of mixed sizes, after the requests.
        progress: called with what is going on.
    """
    for entry in entries:
        row = Row(entry.name, MEASURED)
        case.rows.append(row)
        told = {
            "bundle": str(bundle.root),
            "provider": entry.contestant.provider,
            "precision": entry.contestant.precision,
            "threads": threads,
            "requests": requests,
            "images": images,
            "some": _SOME,
            "parts": bundle.parts(),
        }
        child = Child([sys.executable, "-c", _SCRIPT, json.dumps(told)])
        try:
            for look in range(_LOOKS):
                progress(f"memory: {entry.contestant.label}, look {look + 1} of {_LOOKS}")
                row.resident_bytes.append(child.receive(_SECONDS)[1]["resident"])
        except PeerError as error:
            row.status, row.reason, row.resident_bytes = FAILED, str(error), []
        finally:
            child.stop()


def memory_case(requests: int, images: int) -> Case:
    """Without rows."""
    title = (
        f"resident memory from the {_SOME}th to the {_SOME + requests:,}th request, and after {images:,} images more"
    )
    return Case("memory", "memory", title, "requests", requests, 0.0, "", {"requests": requests, "images": images})
