"""Two engines side by side on one part of a bundle, for a moment: `python -m runtime.choice.trial_process JSON`.

A process of its own: of the engine that loses nothing stays in the process that loads the bundle, and one that ends its
process ends no other.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping
from statistics import median

from runtime.bundle import Bundle, open_bundle
from runtime.choice.opening import open_graph, open_text
from runtime.choice.precision import choose_precision
from runtime.choice.trials import Trial
from runtime.choice.workload import random_pixels, random_texts
from runtime.engines import PROVIDERS, SessionOptions, Sessions
from runtime.errors import CxrEngineError
from runtime.process import print_json

__all__ = ["measure", "take_turns"]

# Rounds after which the trial ends, whatever the time; and after which it ends if each round had the same winner.
_MOST, _ENOUGH = 15, 3


def measure(bundle: Bundle, part: str, precisions: Mapping[str, str], threads: int, seconds: float) -> Trial:
    """Time one batch of a part on each engine.

    Args:
        bundle: the opened bundle.
        part: "text", of which a batch is about 512 tokens in texts as long as reports; or "image", 4 of noise.
        precisions: engine → what it computes in.
        threads: that compute.
        seconds: that the batches may take in all, beside opening.
    """
    runs: dict[str, Callable[[], object]] = {}
    faults: dict[str, str] = {}
    for name, precision in precisions.items():
        try:
            runs[name] = _opened(bundle, part, name, precision, threads)
        except CxrEngineError as error:
            faults[name] = str(error)
    taken = take_turns(runs, seconds, faults)
    return Trial(
        part,
        threads,
        dict(precisions),
        {name: 1000 * median(times) for name, times in taken.items()},
        min(map(len, taken.values()), default=0),
        "" if taken else "; ".join(f"{name}: {fault}" for name, fault in faults.items()),
    )


def take_turns(
    runs: Mapping[str, Callable[[], object]],
    seconds: float,
    faults: dict[str, str] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Run each in turn, once beforehand and then at least once, until it is clear which is faster or the time is up.

    Args:
        runs: by name.
        seconds: that all may take; a round is not begun that would not end in time.
        faults: where what failed in its first run is left, by name.
        clock: in seconds.

    Returns:
        Seconds of each round, by name.
    """

    def timed(run: Callable[[], object]) -> float:
        start = clock()
        run()
        return clock() - start

    begun = clock()
    taken: dict[str, list[float]] = {}
    for name, run in runs.items():
        try:
            run()
        except CxrEngineError as error:
            if faults is not None:
                faults[name] = str(error)
            continue
        taken[name] = []
    names = list(taken)
    if not names:
        return taken
    for number in range(1, _MOST + 1):
        for name in names:
            taken[name].append(timed(runs[name]))
        names.reverse()  # whoever comes first may find another's threads still awake
        last = sum(times[-1] for times in taken.values())
        if clock() - begun + last > seconds or (number >= _ENOUGH and _is_clear(taken)):
            break
    return taken


def _is_clear(taken: Mapping[str, list[float]]) -> bool:
    """Whether one was faster in its slowest round than all others in their fastest."""
    best, *others = sorted(taken.values(), key=median)
    return all(max(best) < min(other) for other in others)


def _opened(bundle: Bundle, part: str, name: str, precision: str, threads: int) -> Callable[[], object]:
    """A function that computes one batch."""
    provider = PROVIDERS[name]
    choice = choose_precision(bundle, part, provider, precision)
    options = SessionOptions(threads, precision)
    # Not as `open_sessions` opens it for an answer soon: what counts is how fast it will be.
    sessions = Sessions(lambda _: open_graph(bundle, choice, provider, options), 1)
    batch = provider.batch[part]
    if part == "text":
        text = open_text(bundle, choice, provider, sessions, batch)
        rows = random_texts(batch, text.tokenizer)
        return lambda: text.encode_tokens(rows)
    from runtime.image.encoder import ImageEncoder

    image = ImageEncoder(bundle.image_part(), sessions, threads=threads, batch=batch)
    pixels = random_pixels(batch, image.preprocessing.shape)
    return lambda: image.encode_pixels_in_bulk(pixels)


def _answer(asked: str) -> None:
    question = json.loads(asked)
    bundle = open_bundle(question["bundle"])
    trials = [
        measure(bundle, part, precisions, question["threads"], question["seconds"] / len(question["parts"]))
        for part, precisions in question["parts"].items()
    ]
    print_json({"trials": [dataclasses.asdict(trial) for trial in trials]}, indent=None)


if __name__ == "__main__":
    _answer(sys.argv[1])
