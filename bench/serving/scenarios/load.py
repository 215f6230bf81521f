"""An open loop: latency at a bearable load, what becomes of too much, single queries beside a large request."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from bench.serving.load.outcome import Outcome
from bench.serving.load.plan import Stream
from bench.serving.questions import bulk_question
from bench.serving.result import Figure, Result
from bench.serving.setting import Setting, check_figures
from bench.workloads.corpus import report_texts

__all__ = ["bulk_and_query", "overload", "poisson"]

_SHARE = 0.7
_OVER = 3.0
# More than may wait at a server that refuses what it cannot answer soon.
_OPEN = 1500
_BULK = 1000
# Of capacity, in single queries, beside a large request.
_QUERIES = 0.2
_MEGABYTE = 1e6


def poisson(setting: Setting) -> Result:
    """Arrivals at random at 70 % of capacity, texts of mixed lengths."""
    questions = setting.questions
    with setting.served(questions) as (_, client):
        setting.warm(client, len(questions))
        single = setting.single_seconds
        capacity, _ = setting.capacity(client, questions)
        rate = _SHARE * capacity
        stream = Stream(setting.order(len(questions), 3), _OPEN, seconds=setting.seconds, rate=rate, seed=setting.seed)
        outcome = client.run(stream)
    checked = setting.judged(outcome, questions)
    p99 = outcome.quantile(0.99)
    figures = [
        Figure("p99 / single-query time", p99 / single, "", 6.0, True, f"of {int(outcome.ok.sum()):,} requests"),
        Figure("p50", 1000 * outcome.quantile(0.5), "ms"),
        Figure("p99", 1000 * p99, "ms"),
        Figure("single query in process", 1000 * single, "ms"),
        Figure("capacity", capacity, "texts/s", note="closed loop of 64 connections, just before"),
        Figure("offered", len(outcome.due) / setting.seconds, "texts/s"),
        Figure("not answered with 200", float(np.sum(~outcome.ok)), "", 0.0, True, _told(outcome)),
        Figure("client late by, p99", 1000 * _lateness(outcome), "ms", note="from due to sent; within the latency"),
        *check_figures(checked),
    ]
    return Result("poisson", figures, {"rate": rate, "share": _SHARE}, _samples(outcome))


def overload(setting: Setting) -> Result:
    """Three times as many requests as the server can answer."""
    questions = setting.questions
    with setting.served(questions) as (server, client):
        setting.warm(client, len(questions))
        capacity, _ = setting.capacity(client, questions)
        before = server.memory()
        stream = Stream(
            setting.order(len(questions), 4), _OPEN, seconds=setting.seconds, rate=_OVER * capacity, seed=setting.seed
        )
        running = client.start([stream])
        peak = before
        end = time.perf_counter() + setting.seconds
        while time.perf_counter() < end:
            time.sleep(min(0.5, setting.seconds / 10))
            peak = max(peak, server.memory())
        outcome = running.wait()
        ready = server.get("/ready")[0]
        after, recovered = setting.capacity(client, questions)
    start = float(outcome.due.min())
    goodput = outcome.within(start, start + setting.seconds) / setting.seconds
    refused = outcome.status == 429
    checked = setting.judged(outcome, questions)
    others = ~(outcome.ok | refused)
    told = outcome.retry_after[refused]
    figures = [
        Figure("goodput / capacity", goodput / capacity, "", 0.9, False, f"{goodput:.1f} of {capacity:.1f} texts/s"),
        Figure("429 within, p99", 1000 * outcome.quantile(0.99, 429), "ms", 50.0, True, f"of {int(refused.sum()):,}"),
        Figure("429 within, p50", 1000 * outcome.quantile(0.5, 429), "ms"),
        Figure("client late by, p99", 1000 * _lateness(outcome), "ms", note="from due to sent; within the latency"),
        Figure("neither 200 nor 429", float(others.sum()), "", 0.0, True, _told(outcome)),
        Figure("memory grown by at most", (peak - before) / _MEGABYTE, "MB", 50.0, True, "while overloaded"),
        Figure("p99 of those accepted", outcome.quantile(0.99), "s"),
        Figure("429 without Retry-After", float(np.sum(told < 0)), "", 0.0, True, _asked_for(told)),
        Figure("capacity afterwards / before", after / capacity, "", note=f"{int((~recovered.ok).sum())} not 200"),
        Figure("ready afterwards", float(ready == 200), "", 1.0),
        *check_figures(checked),
    ]
    settings = {"rate": _OVER * capacity, "capacity": capacity}
    samples = {
        **_samples(outcome),
        "seconds to 429": outcome.latency[refused].tolist(),
        "seconds from the start until due, of 429": (outcome.due[refused] - start).tolist(),
        "seconds from due to sent, of 429": (outcome.begun - outcome.due)[refused].tolist(),
    }
    return Result("overload", figures, settings, samples)


def bulk_and_query(setting: Setting) -> Result:
    """Requests of 1,000 texts, one after the other, beside single queries at random."""
    questions = setting.questions
    many = report_texts(2 * _BULK, setting.seed + 1, setting.engine.text.tokenizer)
    # Without those that are asked for alone.
    texts = setting.different([*setting.corpus, *many])[len(setting.corpus) :][:_BULK]
    everything = [*questions, bulk_question(setting.engine, texts)]
    with setting.served(everything) as (_, client):
        setting.warm(client, len(questions))
        single = setting.single_seconds
        capacity, _ = setting.capacity(client, questions)
        order = setting.order(len(questions), 5)
        queries = Stream(order, _OPEN, seconds=setting.seconds, rate=_QUERIES * capacity, seed=setting.seed)
        alone = client.run(queries)
        bulk = Stream([len(questions)], seconds=setting.seconds)
        both = client.run(queries, bulk)
    mine, its = both.of(both.stream == 0), both.of(both.stream == 1)
    checked = setting.judged(both, everything)
    figures = [
        Figure(
            "p99 of queries / single-query time", mine.quantile(0.99) / single, "", note=f"of {int(mine.ok.sum()):,}"
        ),
        Figure("p50 of queries", 1000 * mine.quantile(0.5), "ms"),
        Figure("p90 of queries", 1000 * mine.quantile(0.9), "ms"),
        Figure("p99 of queries", 1000 * mine.quantile(0.99), "ms"),
        Figure("p99 of the same queries alone", 1000 * alone.quantile(0.99), "ms"),
        Figure(f"a request of {len(texts):,} texts", its.quantile(0.5), "s", note=f"{_rate(len(texts), its)} texts/s"),
        Figure("not answered with 200", float(np.sum(~both.ok)), "", 0.0, True, _told(both)),
        *check_figures(checked),
    ]
    return Result("bulk-and-query", figures, {"rate": _QUERIES * capacity}, _samples(mine))


def _samples(outcome: Outcome) -> dict[str, Any]:
    return {"seconds to 200": outcome.latency[outcome.ok].tolist()}


def _lateness(outcome: Outcome) -> float:
    return float(np.quantile(outcome.begun - outcome.due, 0.99)) if len(outcome.due) else float("nan")


def _told(outcome: Outcome) -> str:
    return ", ".join(f"{number:,} × {name}" for name, number in outcome.counts().items())


def _asked_for(told: Any) -> str:
    said = told[told >= 0]
    return f"Retry-After from {said.min():.0f} to {said.max():.0f} s" if len(said) else ""


def _rate(texts: int, outcome: Outcome) -> str:
    return f"{texts / outcome.quantile(0.5):.1f}"
