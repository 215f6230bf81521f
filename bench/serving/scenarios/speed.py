"""What the server costs beside the engine in process, in turns: throughput of many clients, latency of a single one."""

from __future__ import annotations

import math
import time

import numpy as np

from bench.serving.checks import Judgement
from bench.serving.load.plan import Stream
from bench.serving.result import Figure, Result, median, quantile
from bench.serving.setting import Setting, check_figures

__all__ = ["latency", "throughput"]

_CONNECTIONS = 64
# Requests of a block that alternates with as many calls in process.
_BLOCK = 25


def throughput(setting: Setting) -> Result:
    """64 connections with a text a request, and `engine.text.encode` over the very same texts, in turns."""
    questions, engine = setting.questions, setting.engine
    checked, ratios, served, own, cpu = Judgement(), [], [], [], []
    with setting.served(questions) as (_, client):
        setting.warm(client, len(questions))
        engine.text.encode(setting.corpus)
        started = time.perf_counter()
        engine.text.encode(setting.corpus)
        passes = max(1, round(setting.seconds / setting.rounds / 2 / (time.perf_counter() - started)))
        for number in range(setting.rounds):
            order = [each for turn in range(passes) for each in setting.order(len(questions), 100 * number + turn)]
            texts = [setting.corpus[each] for each in order]
            # Whoever is second finds the caches as the first left them: they take turns at that as well.
            for side in ("served", "own") if number % 2 == 0 else ("own", "served"):
                if side == "own":
                    started = time.perf_counter()
                    for start in range(0, len(texts), len(setting.corpus)):
                        # A pass at a time: `encode` computes equal texts of a call once.
                        engine.text.encode(texts[start : start + len(setting.corpus)])
                    own.append(time.perf_counter() - started)
                else:
                    outcome = client.run(Stream(order, connections=_CONNECTIONS, count=len(order)))
                    served.append(outcome.seconds)
                    cpu.append(outcome.cpu_seconds / len(order))
                    checked = checked.beside(setting.judged(outcome, questions))
            ratios.append(own[-1] / served[-1])
    texts_a_round = passes * len(questions)
    figures = [
        Figure("share of engine.text.encode", median(ratios), "", 0.9, False, _spread(ratios)),
        Figure("served", texts_a_round / median(served), "texts/s"),
        Figure("in process", texts_a_round / median(own), "texts/s"),
        Figure("client's own processor time", 1e6 * median(cpu), "µs a request"),
        *check_figures(checked),
    ]
    settings = {"connections": _CONNECTIONS, "texts": texts_a_round, "rounds": setting.rounds}
    return Result("throughput", figures, settings, {"served": served, "in process": own})


def latency(setting: Setting) -> Result:
    """One idle client: how much longer a request takes than `engine.text.encode` of the same text in process."""
    questions = setting.questions
    checked, served, own = Judgement(), [], []
    with setting.served(questions) as (_, client):
        setting.warm(client, len(questions))
        asked = client.run(Stream(setting.order(len(questions), 2), count=_BLOCK), bodies=False).quantile(0.5)
        blocks = max(4, math.ceil(setting.seconds / (_BLOCK * (asked + setting.single_seconds))))
        rng = np.random.default_rng([setting.seed, 2])
        for number in range(blocks):
            order = rng.integers(0, len(questions), _BLOCK).tolist()
            for side in ("served", "own") if number % 2 == 0 else ("own", "served"):
                # The first of a block pays for what the other side left in the caches; it is not counted.
                if side == "served":
                    outcome = client.run(Stream([order[0], *order], count=_BLOCK + 1))
                    checked = checked.beside(setting.judged(outcome, questions))
                    served += outcome.latency[1:].tolist()
                else:
                    own += [_encode_seconds(setting, each) for each in [order[0], *order]][1:]
    added = [quantile(served, share) - quantile(own, share) for share in (0.5, 0.99)]
    pairs = [1000 * (mine - its) for mine, its in zip(served, own, strict=True)]
    figures = [
        Figure("added at the median", 1000 * added[0], "ms", 1.5, True),
        Figure("added at the 99th percentile", 1000 * added[1], "ms", 4.0, True, f"of {len(served)} requests"),
        Figure("median of a request", 1000 * median(served), "ms"),
        Figure("median in process", 1000 * median(own), "ms"),
        Figure(
            "median of differences text by text",
            median(pairs),
            "ms",
            note="the same text within the same second or two",
        ),
        *check_figures(checked),
    ]
    return Result("latency", figures, {"requests": len(served)}, {"served": served, "in process": own})


def _encode_seconds(setting: Setting, number: int) -> float:
    started = time.perf_counter()
    setting.engine.text.encode(setting.corpus[number])
    return time.perf_counter() - started


def _spread(ratios: list[float]) -> str:
    return f"median of {len(ratios)} rounds, {min(ratios):.3f} to {max(ratios):.3f}"
