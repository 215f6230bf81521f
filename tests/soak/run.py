"""Threads that ask at random for a while, and what is watched meanwhile."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime import Engine
from tests.soak.requests import Request, answer_all

__all__ = ["Soak", "resident_bytes", "soak"]

_SAMPLES_A_SECOND = 2.0
# Of the memory's samples, so many of the end are its end, and so many after the first minute its beginning.
_SHARE = 0.1


@dataclass
class Soak:
    """What was seen.

    Attributes:
        calls: of each kind of request and engine.
        exact: calls whose answer was the single thread's bit for bit.
        worst: largest difference of an answer from the single thread's, by engine.
        faults: what went wrong, in words; the first of them.
        memory: seconds since the start and resident bytes.
        settled: seconds after which memory may not grow.
    """

    settled: float
    calls: Counter[str] = field(default_factory=Counter)
    exact: int = 0
    worst: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Memory at the end over memory after the first minute, minus 1; medians of a tenth of the samples each."""
        later = [bytes_ for seconds, bytes_ in self.memory if seconds >= self.settled]
        count = max(1, int(len(later) * _SHARE))
        return median(later[-count:]) / median(later[:count]) - 1


def soak(
    engines: Mapping[str, Engine],
    requests: Sequence[Request],
    seconds: float,
    *,
    threads: int = 8,
    gate: float,
    settled: float = 60.0,
    seed: int = 0,
) -> Soak:
    """Ask all engines at random from several threads, and compare each answer with what one thread was answered.

    Args:
        engines: by name; they are shared by all threads.
        requests: see `make_requests`.
        seconds: how long.
        threads: that ask.
        gate: largest difference of a number that is no fault.
        settled: seconds after which memory may not grow.
        seed: of the order of requests.
    """
    expected = {name: answer_all(engine, requests) for name, engine in engines.items()}
    seen, lock = Soak(settled), threading.Lock()
    start = time.monotonic()

    def ask(number: int) -> None:
        draw = random.Random(seed * 1000 + number)
        while time.monotonic() - start < seconds:
            name, at = draw.choice(list(engines)), draw.randrange(len(requests))
            request = requests[at]
            try:
                difference = _difference(request.ask(engines[name]), expected[name][at])
            except Exception as error:
                with lock:
                    seen.faults.append(f"{name}, {request.name}: {type(error).__name__}: {error}")
                continue
            with lock:
                seen.calls[f"{name}, {request.name}"] += 1
                seen.exact += difference == 0
                seen.worst[name] = max(seen.worst.get(name, 0.0), difference)
                if not difference <= gate:
                    seen.faults.append(f"{name}, {request.name}: differs by {difference:.3g}, {gate:g} is allowed")

    workers = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(threads)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        seen.memory.append((time.monotonic() - start, resident_bytes()))
        time.sleep(1 / _SAMPLES_A_SECOND)
    return seen


def _difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    if found.shape != expected.shape:
        return float("inf")
    return float(np.abs(found - expected).max(initial=0))


def resident_bytes() -> int:
    """Memory of this process that lies in RAM (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096
