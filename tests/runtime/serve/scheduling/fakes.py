"""An engine that can be held, fails on demand, and answers so that every mix-up shows."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.engines import Sessions
from runtime.serve.caller import Caller
from runtime.serve.scheduling.jobs import Item, Job
from runtime.serve.scheduling.scheduler import Scheduler
from runtime.serve.scheduling.text_lane import TextItem, TextLane
from runtime.text.text_batches import TextBatches

PAD, POISON = 0, 999


class FakeSession:
    """Embeds a text as the sum and the number of its tokens.

    Attributes:
        calls: shape of the input_ids of each call.
        hold: while it is set calls wait.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[int, ...]] = []
        self.tokens: list[list[list[int]]] = []
        self.free = threading.Event()
        self.free.set()
        self.began = threading.Semaphore(0)

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        ids, segments, positions = inputs["input_ids"], inputs["segment_ids"], inputs["text_positions"]
        self.calls.append(ids.shape)
        self.tokens.append([row[row != PAD].tolist() for row in ids])
        self.began.release()
        assert self.free.wait(20)
        if (ids == POISON).any():
            raise RuntimeError("the text was 'secret'")
        found = np.zeros((*positions.shape, 2), np.float32)
        for row in range(len(ids)):
            for place, position in enumerate(positions[row]):
                own = ids[row][segments[row] == segments[row, position]]
                found[row, place] = own.sum(), len(own)
        return [found if output == "text_embeds" else found * 10 for output in outputs]


def lane_of(session: FakeSession, budget: int = 64) -> TextLane:
    batches = TextBatches(Sessions(lambda streams: session, 1), True, budget, PAD, 512, "cls")
    return TextLane(batches, session, budget)


class Asked:
    """A job of some texts, and what became of it."""

    def __init__(
        self, rows: Sequence[Sequence[int]], caller: Caller | None = None, output: str = "text_embeds"
    ) -> None:
        self.caller = caller or Caller()
        self.found = np.zeros((len(rows), 2), np.float32)
        self.rows = rows
        self.output = output
        self.done: Future[None] = Future()
        self.delivered = 0

    def submit(self, scheduler: Scheduler, lane: TextLane) -> Asked:
        job = Job(self.caller, "text", self._deliver)
        items = [
            Item(job, TextItem(row, self.output, into), len(row) * lane.rate.seconds, len(row))
            for row, into in zip(self.rows, self.found, strict=True)
        ]
        scheduler.submit(lane, job, items)
        return self

    def _deliver(self, error: Exception | None) -> None:
        self.delivered += 1
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)

    def expected(self) -> NDArray[np.float32]:
        times = 1 if self.output == "text_embeds" else 10
        return np.array([[sum(row), len(row)] for row in self.rows], np.float32) * times

    def check(self) -> None:
        self.done.result(20)
        assert np.array_equal(self.found, self.expected())
        assert self.delivered == 1
