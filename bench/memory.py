"""Resident memory while very many texts and images are embedded."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from bench.cold_start import prepare
from bench.measure import PeerError

__all__ = ["run"]

_SOME = 200

_SCRIPT = """
import gc, json, sys
import numpy as np
import runtime
bundle, provider, precision, threads, texts, images, some = sys.argv[1:]
texts, images, some = int(texts), int(images), int(some)
engine = runtime.load(bundle, provider, precision, int(threads))
rng = np.random.default_rng(0)
def resident():
    gc.collect()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))
def request():
    # One text, or some, or enough for the session of bulk work.
    count = int(rng.choice([1, 1, 1, 1, 2, 8, 32, 200], p=[.3, .2, .2, .1, .1, .05, .045, .005]))
    most = rng.choice([20, 60, 500], count, p=[.7, .28, .02])
    engine.text.encode(["1 " * int(rng.integers(1, 1 + words)) for words in most])
def image():
    height, width = rng.integers(480, 900, 2)
    return rng.integers(0, 256, (int(height), int(width))).astype(np.uint8)
engine.text.encode(["1 " * int(n) for n in rng.integers(1, 400, 200)])
for _ in range(some):
    request()
list(engine.image.encode_iter(image() for _ in range(some)))
first = resident()
marks = []
for index in range(texts):
    request()
    if index % max(1, texts // 10) == 0:
        marks.append(resident())
for _ in engine.image.encode_iter(image() for _ in range(images)):
    pass
print(json.dumps({"first": first, "texts": marks, "last": resident()}))
"""


def run(options: argparse.Namespace, work: Path) -> None:
    """Measure in a process of its own, and print."""
    _, bundle = prepare(options.checkpoint, options.bundle, options.family, options.precision, work)
    arguments = [bundle, options.provider, options.precision, options.threads, options.texts_count]
    arguments += [options.images_count, _SOME]
    command = [sys.executable, "-c", _SCRIPT, *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise PeerError(finished.stderr.strip()[-2000:] or f"exit status {finished.returncode}")
    report = json.loads(finished.stdout)
    if options.json:
        print(json.dumps(report, indent=2))
        return
    print(f"resident memory ({options.provider}, {options.precision})")
    print(f"  after the first {_SOME} requests and images {report['first'] / 1e6:8.0f} MB")
    print(f"  meanwhile {', '.join(f'{value / 1e6:.0f}' for value in report['texts'])} MB")
    print(
        f"  after {options.texts_count:,} requests and {options.images_count:,} images {report['last'] / 1e6:.0f} MB, "
        f"{report['last'] / report['first'] - 1:+.1%}"
    )
