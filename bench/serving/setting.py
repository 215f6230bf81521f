"""What all scenarios of a run share: the bundle, the engine in process, texts, how long, how the server is started."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

import runtime
from bench.serving.checks import Judgement, Question, judge
from bench.serving.load.client import Client
from bench.serving.load.outcome import Outcome
from bench.serving.load.plan import Stream
from bench.serving.questions import MIXTURE, text_questions
from bench.serving.result import Figure, median
from bench.serving.server_process import HOST, PROGRAM, ServerProcess, engine_server
from bench.workloads.corpus import report_texts
from runtime.engine import Engine

__all__ = ["Setting", "check_figures"]

# Texts that differ; longer loads begin with the first again.
_TEXTS = 512
# Connections that keep any server of one machine busy.
_BUSY = 64
_SINGLES = 60


@dataclass(frozen=True)
class Setting:
    """How scenarios are run.

    Attributes:
        bundle: folder of the bundle that is served.
        provider: as for `runtime.load`, of the server and of the engine in process alike.
        precision: likewise.
        threads: likewise; None for all processors.
        seconds: that a load lasts.
        rounds: of comparisons that are made in turn.
        seed: of what is drawn at random.
        work: a folder for what is written.
        server_options: further options of `python -m runtime serve`.
        second: another bundle of the same shape, for what needs two.
        requests: of the long mixture of all kinds.
        texts: how many different ones.
        peers: names of other servers; none means all.
        program: what Python runs as the server, before "serve BUNDLE …".
    """

    bundle: Path
    work: Path
    provider: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    seconds: float = 30.0
    rounds: int = 5
    seed: int = 0
    server_options: Sequence[str] = ()
    second: Path | None = None
    requests: int = 10_000
    texts: int = _TEXTS
    peers: Sequence[str] = ()
    program: Sequence[str] = PROGRAM

    @cached_property
    def engine(self) -> Engine:
        """The bundle in this process, without its cache, as the server: loads begin with the first text again."""
        return runtime.load(self.bundle, self.provider, self.precision, self.threads, text_cache=0)

    @cached_property
    def corpus(self) -> list[str]:
        """Texts of different tokens, whose lengths are mixed as those of reports are."""
        return self.different(report_texts(self.texts, self.seed, self.engine.text.tokenizer))

    def different(self, texts: Sequence[str]) -> list[str]:
        """Those whose tokens no text before has: equal tokens have equal answers, which nobody can tell apart."""
        found: dict[tuple[int, ...], str] = {}
        for text, row in zip(texts, self.engine.text.tokenizer.encode(list(texts)), strict=True):
            found.setdefault(tuple(row), text)
        return list(found.values())

    @cached_property
    def questions(self) -> list[Question]:
        """One for each text of the corpus."""
        return text_questions([self.engine], self.corpus)

    @property
    def exact(self) -> bool:
        """Whether everything is computed in fp32."""
        return set(self.engine.precision.values()) == {"fp32"}

    @property
    def single_seconds(self) -> float:
        """Time of a single query in process: the median over texts of the corpus, after some to warm up."""
        texts = self.corpus[:_SINGLES]
        for text in texts[:5]:
            self.engine.text.encode(text)
        taken = []
        for text in texts:
            started = time.perf_counter()
            self.engine.text.encode(text)
            taken.append(time.perf_counter() - started)
        return median(taken)

    def options(self) -> list[str]:
        """Of `python -m runtime serve`, so that it computes as the engine in process does."""
        found = ["--provider", self.provider, "--precision", self.precision, "--text-cache", "0"]
        if self.threads is not None:
            found += ["--threads", str(self.threads)]
        return [*found, *self.server_options]

    @contextmanager
    def served(
        self,
        questions: Sequence[Question],
        *,
        bundle: Path | None = None,
        program: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Iterator[tuple[ServerProcess, Client]]:
        """A server and a client with these questions, both ended afterwards.

        Args:
            questions: that streams name by number.
            bundle: in the place of the setting's.
            program: likewise.
            environment: variables beside those of this process.
        """
        bundles = [str(bundle or self.bundle)]
        with (
            engine_server(bundles, self.options(), program=program or self.program, environment=environment) as server,
            Client(HOST, server.port, [question.request for question in questions]) as client,
        ):
            yield server, client

    def order(self, count: int, seed: int = 0) -> list[int]:
        """Numbers of questions in random order."""
        return [int(number) for number in np.random.default_rng([self.seed, seed]).permutation(count)]

    def mixture(self, questions: Mapping[str, Sequence[Question]], count: int, seed: int = 0) -> list[int]:
        """Numbers of so many questions of all kinds in random order, counted through the kinds in their order."""
        shares = np.array([MIXTURE[kind] if questions[kind] else 0.0 for kind in questions])
        starts = np.cumsum([0, *(len(each) for each in questions.values())])
        sizes = np.array([max(1, len(each)) for each in questions.values()])
        rng = np.random.default_rng([self.seed, seed])
        kinds = rng.choice(len(shares), count, p=shares / shares.sum())
        return [int(starts[kind] + rng.integers(sizes[kind])) for kind in kinds]

    def warm(self, client: Client, count: int) -> None:
        """Every question once, so that nothing is met for the first time while it is timed."""
        client.run(Stream(list(range(count)), connections=min(_BUSY, count), count=count), bodies=False)

    def capacity(self, client: Client, questions: Sequence[Question]) -> tuple[float, Outcome]:
        """Answers a second of a closed loop that keeps the server busy, and that loop's outcome."""
        order = self.order(len(questions), 1)
        outcome = client.run(Stream(order, connections=_BUSY, seconds=max(1.0, self.seconds / 3)))
        start, last = float(outcome.begun.min()), float(outcome.begun.max())
        return outcome.within(start, last) / max(last - start, 1e-9), outcome

    def judged(self, outcome: Outcome, questions: Sequence[Question]) -> Judgement:
        """Compare all answers with the engine's."""
        return judge(outcome, questions, self.exact)


def check_figures(found: Judgement) -> list[Figure]:
    """How many answers were wrong, and whether swapped ones would have been found."""
    note = f"of {found.compared:,} compared; the farthest right one {found.worst:.1e} from the engine's"
    figures = [Figure("wrong answers", float(len(found.wrong)), "", 0.0, True, note)]
    if found.swapped:
        note = f"control: {found.swapped:,} answers handed to another request"
        figures.append(Figure("share of swapped answers found", found.found / found.swapped, "", 1.0, False, note))
    return figures
