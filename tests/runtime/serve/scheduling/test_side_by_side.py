"""Batches of much work are computed side by side, a query's alone; and turns are taken in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.engines import Sessions
from runtime.serve.scheduling.engine_turns import EngineTurns
from runtime.serve.scheduling.scheduler import Scheduler
from runtime.serve.scheduling.text_lane import TextLane
from runtime.text.text_batches import TextBatches
from tests.runtime.serve.scheduling.fakes import PAD, Asked, FakeSession


class Watched(FakeSession):
    """Tells how many calls run at a time, over all sessions of a list."""

    def __init__(self, running: list[str], seen: list[list[str]], name: str) -> None:
        super().__init__()
        self._running, self._seen, self._name = running, seen, name
        self._lock = threading.Lock()

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        with self._lock:
            self._running.append(self._name)
            self._seen.append(list(self._running))
        time.sleep(0.005)
        found = super().run(outputs, inputs)
        with self._lock:
            self._running.remove(self._name)
        return found


def test_much_work_is_computed_side_by_side_and_a_query_alone() -> None:
    running: list[str] = []
    seen: list[list[str]] = []
    single, bulk = (Watched(running, seen, name) for name in ("single", "bulk"))
    batches = TextBatches(Sessions(lambda streams: single, 2), True, 32, PAD, 512, "cls")
    scheduler = Scheduler()
    lane = TextLane(batches, single, 64, bulk, 2)
    scheduler.start()
    scheduler.add(lane)
    try:
        many = [Asked([[1 + number % 9] * 20]).submit(scheduler, lane) for number in range(60)]
        for asked in many:
            asked.check()
        assert ["bulk", "bulk"] in seen
        assert max(map(len, seen)) == 2
        assert all(each == ["single"] for each in seen if "single" in each), "nothing runs beside it"
        assert bulk.calls
        bulk.calls.clear()
        lane.rate.learn(1, 1.0)
        lane.rate.seconds = 1.0
        corpus = Asked([[1 + number % 9] * 20 for number in range(30)]).submit(scheduler, lane)
        query = Asked([[5] * 5]).submit(scheduler, lane)
        for asked in (corpus, query):
            asked.check()
        assert not bulk.calls, "beside a corpus a query would wait for several batches"
    finally:
        scheduler.close()


def test_turns_are_taken_in_order() -> None:
    turns = EngineTurns()
    order: list[int] = []
    tickets = [turns.ticket() for _ in range(30)]

    def use(ticket: int) -> None:
        with turns.turn(ticket, alone=ticket % 3 == 0, streams=2):
            order.append(ticket)
            time.sleep(0.001)

    threads = [threading.Thread(target=use, args=(ticket,)) for ticket in reversed(tickets)]
    for thread in threads:
        thread.start()
        time.sleep(0.001)
    for thread in threads:
        thread.join(10)
    assert order == tickets
