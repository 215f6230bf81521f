"""Other servers with the same graph: throughput at equal p99, over closed loops of more and more connections."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import runtime
from bench.errors import PeerError
from bench.serving.checks import Judgement, Question, judge
from bench.serving.load.client import Client
from bench.serving.load.plan import Stream
from bench.serving.peers.entries import PEERS, Peer, Served, start_peer
from bench.serving.result import Figure, Result
from bench.serving.server_process import HOST, engine_server
from bench.serving.setting import Setting, check_figures
from runtime.engine import Engine
from runtime.engines import default_threads

__all__ = ["Point", "best_within", "peers"]

_CONNECTIONS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)
_GOAL = 1.5
# What only this runtime and the reference strip from the end of a text.
_STRIPPED = "!?."


@dataclass(frozen=True)
class Point:
    """A closed loop of so many connections: texts a second, and the 99th percentile of its latencies in seconds."""

    connections: int
    rate: float
    p99: float


def peers(setting: Setting) -> Result:
    """Every server of the table that is installed, one after the other, this one before and after them."""
    engine = setting.engine
    precision = engine.precision["text"]
    threads = setting.threads or default_threads()
    served = Served(setting.bundle, precision, engine.provider, threads, setting.work)
    texts = list(dict.fromkeys(text.rstrip(_STRIPPED).rstrip() for text in setting.corpus))
    references: dict[str, Engine] = {engine.provider: engine}
    checked, figures, samples = Judgement(), [], {}
    names = [name for name in PEERS if not setting.peers or name in setting.peers]
    questions = _questions(engine, texts, "text", PEERS["fastapi"])
    ours, found = _ours(setting, questions)
    checked = checked.beside(found)
    points: dict[str, list[Point]] = {}
    judged: dict[str, Judgement] = {}
    for name in names:
        peer = PEERS[name]
        provider = peer.provider or engine.provider
        try:
            if provider not in references:
                references[provider] = runtime.load(setting.bundle, provider, precision, threads, parts=["text"])
            asked = _questions(references[provider], texts, peer.kind, peer)
            with start_peer(peer, served) as server, _client(server.port, asked) as client:
                points[name], judged[name] = _sweep(setting, client, asked)
        except PeerError as error:
            reason = " ".join(str(error).split())
            figures.append(Figure(peer.label, math.nan, note=f"not measured: {reason[-300:]}"))
    again, found = _ours(setting, questions)
    checked = checked.beside(found)
    both = _together(ours, again)
    figures = [
        Figure("this server, most texts a second", max(point.rate for point in ours), "texts/s", note=_shown(ours)),
        Figure("the same afterwards", max(point.rate for point in again), "texts/s", note=_shown(again)),
        *(_comparison(PEERS[name], each, both, judged[name]) for name, each in points.items()),
        *figures,
        *check_figures(checked),
    ]
    samples = {
        "this server": [asdict(point) for point in [*ours, *again]],
        **{name: [asdict(point) for point in each] for name, each in points.items()},
    }
    settings = {"precision": precision, "threads": threads, "connections": list(_CONNECTIONS)}
    return Result("peers", figures, settings, samples)


def best_within(points: Sequence[Point], p99: float) -> float:
    """Most texts a second at a load whose 99th percentile is within a bound; NaN where none is."""
    return max((point.rate for point in points if point.p99 <= p99), default=math.nan)


def _comparison(peer: Peer, points: Sequence[Point], ours: Sequence[Point], found: Judgement) -> Figure:
    """This server's throughput beside the peer's best, at the peer's own p99 there."""
    best = max(points, key=lambda point: point.rate)
    ratio = best_within(ours, best.p99) / best.rate
    others = [best_within(ours, point.p99) / point.rate for point in points]
    known = [each for each in others if not math.isnan(each)]
    note = f"at its best, {best.rate:.1f} texts/s with p99 {1000 * best.p99:.0f} ms at {best.connections} connections"
    note += f"; over all its loads {min(known):.2f} to {max(known):.2f}" if known else ""
    note += f"; {len(found.wrong)} of {found.compared:,} answers wrong, {found.worst:.1e} away at most"
    return Figure(f"× {peer.label}", ratio, "", _GOAL, False, note)


def _ours(setting: Setting, questions: Sequence[Question]) -> tuple[list[Point], Judgement]:
    with (
        engine_server([str(setting.bundle)], setting.options(), program=setting.program) as server,
        _client(server.port, questions) as client,
    ):
        return _sweep(setting, client, questions)


@contextmanager
def _client(port: int, questions: Sequence[Question]) -> Iterator[Client]:
    with Client(HOST, port, [question.request for question in questions]) as client:
        yield client


def _together(before: Sequence[Point], after: Sequence[Point]) -> list[Point]:
    """Of two sweeps at the same loads the mean rates, and the larger 99th percentiles."""
    return [
        Point(mine.connections, (mine.rate + its.rate) / 2, max(mine.p99, its.p99))
        for mine, its in zip(before, after, strict=True)
    ]


def _sweep(setting: Setting, client: Client, questions: Sequence[Question]) -> tuple[list[Point], Judgement]:
    """A closed loop for each number of connections, each answer compared; every text is asked for once before."""
    checked, points = Judgement(), []
    setting.warm(client, len(questions))
    order = setting.order(len(questions), 60)
    for count in _CONNECTIONS:
        outcome = client.run(Stream(order, count, seconds=max(1.0, setting.seconds / len(_CONNECTIONS))))
        found = judge(outcome, questions, setting.exact)
        checked = checked.beside(found)
        refused = int((~outcome.ok).sum())
        if refused:
            raise PeerError(
                f"{refused} of {len(outcome.status)} requests were not answered with 200: {outcome.counts()}"
            )
        points.append(Point(count, len(outcome.status) / outcome.seconds, outcome.quantile(0.99)))
    return points, checked


def _questions(engine: Engine, texts: Sequence[str], kind: str, peer: Peer) -> list[Question]:
    expected = engine.text.encode(list(texts)).astype(float)
    return [Question(kind, peer.request(text), (row[None],)) for text, row in zip(texts, expected, strict=True)]


def _shown(points: Sequence[Point]) -> str:
    return ", ".join(f"{each.connections}: {each.rate:.0f} ({1000 * each.p99:.0f} ms)" for each in points)
