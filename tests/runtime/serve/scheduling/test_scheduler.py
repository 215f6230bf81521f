"""What is computed together, in which order, and what becomes of callers who leave and of batches that fail."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from runtime.serve.caller import Caller
from runtime.serve.request_errors import RequestError
from runtime.serve.scheduling.scheduler import Scheduler
from runtime.serve.scheduling.text_lane import TextLane, balanced, choose
from runtime.text.packing import Row
from tests.runtime.serve.scheduling.fakes import POISON, Asked, FakeSession, lane_of


class Records:
    def __init__(self) -> None:
        self.batches: list[tuple[str, int, int]] = []
        self.reasons: list[str] = []
        self.failures = 0
        self.waits: list[float] = []

    def batch(self, kind: str, items: int, tokens: int, seconds: float) -> None:
        self.batches.append((kind, items, tokens))

    def queue(self, kind: str, items: int) -> None:
        assert items >= 0

    def wait(self, kind: str, seconds: float) -> None:
        self.waits.append(seconds)

    def rejected(self, reason: str) -> None:
        self.reasons.append(reason)

    def failed(self, kind: str) -> None:
        self.failures += 1


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def scheduler(records: Records) -> Iterator[Scheduler]:
    made = Scheduler(observer=records)
    yield made
    made.close()


@pytest.fixture
def lane(scheduler: Scheduler, session: FakeSession) -> Iterator[TextLane]:
    lane = lane_of(session)
    scheduler.add(lane)
    scheduler.start()
    yield lane
    session.free.set()


def held(scheduler: Scheduler, lane: TextLane, session: FakeSession) -> Asked:
    """A text that the engine is busy with until `session.free` is set."""
    session.free.clear()
    first = Asked([[7]]).submit(scheduler, lane)
    assert session.began.acquire(timeout=10)
    return first


def test_a_text_alone_does_not_wait(scheduler: Scheduler, lane: TextLane, records: Records) -> None:
    Asked([[3, 4, 5]]).submit(scheduler, lane).check()
    time.sleep(0.05)
    began = time.monotonic()
    Asked([[3, 4, 6]]).submit(scheduler, lane).check()
    assert time.monotonic() - began < 0.5
    assert records.batches == [("text", 1, 3)] * 2


def test_callers_share_rows_of_a_batch(
    scheduler: Scheduler, lane: TextLane, session: FakeSession, records: Records
) -> None:
    first = held(scheduler, lane, session)
    others = [Asked([[10 + n, 20 + n]], output=("text_embeds", "unnormalized_embeds")[n % 2]) for n in range(8)]
    for asked in others:
        asked.submit(scheduler, lane)
    session.free.set()
    for asked in [first, *others]:
        asked.check()
    assert session.calls[1:] == [(1, 16)], "eight texts of two tokens fill one row"
    assert records.batches == [("text", 1, 1), ("text", 8, 16)]


def test_any_number_of_callers_get_their_own(scheduler: Scheduler, lane: TextLane) -> None:
    """From many threads, texts of all lengths: no answer is another's."""
    chance = random.Random(0)
    asked = [
        Asked(
            [[chance.randrange(1, 900) for _ in range(chance.randrange(1, 60))] for _ in range(chance.randrange(1, 9))]
        )
        for _ in range(200)
    ]

    def submit(part: list[Asked]) -> None:
        for each in part:
            each.submit(scheduler, lane)

    threads = [threading.Thread(target=submit, args=(asked[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in asked:
        each.check()
    assert scheduler.idle
    assert scheduler._backlog.ahead(time.monotonic(), 1.0) == pytest.approx(0, abs=1e-9)
    asked[0].found[0] += 1
    with pytest.raises(AssertionError):
        asked[0].check()


def test_a_query_overtakes_a_long_request(scheduler: Scheduler, lane: TextLane, session: FakeSession) -> None:
    lane.rate.learn(1, 0.01)  # so slow an engine that this machine's speed does not matter
    held(scheduler, lane, session)
    Asked([[1] * 30 for _ in range(500)]).submit(scheduler, lane)
    query = Asked([[8, 9]]).submit(scheduler, lane)
    session.free.set()
    query.check()
    assert session.tokens[1] == [[8, 9]], "it waits for the batch that runs alone, and nothing is put beside it"


def test_a_long_request_is_not_put_off_for_ever(scheduler: Scheduler, lane: TextLane, session: FakeSession) -> None:
    """Short ones that come all the time leave it a share."""
    lane.rate.learn(1000, 1.0)
    held(scheduler, lane, session)
    long = Asked([[1] * 60 for _ in range(4)]).submit(scheduler, lane)  # 0.24 s of work: due within a second
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            Asked([[5] * 60]).submit(scheduler, lane)
            time.sleep(0.0005)

    thread = threading.Thread(target=flood)
    thread.start()
    session.free.set()
    try:
        long.done.result(20)
    finally:
        stop.set()
        thread.join()


def test_work_of_callers_who_left_is_not_computed(
    scheduler: Scheduler, lane: TextLane, session: FakeSession, records: Records
) -> None:
    held(scheduler, lane, session)
    gone, late, stays = Caller(), Caller(deadline=time.monotonic() + 0.05), Caller()
    asked = {
        name: Asked([[number] * 4], caller)
        for number, (name, caller) in enumerate({"gone": gone, "late": late, "stays": stays}.items(), start=1)
    }
    for each in asked.values():
        each.submit(scheduler, lane)
    gone.leave()
    time.sleep(0.1)
    session.free.set()
    asked["stays"].check()
    for name in ("gone", "late"):
        with pytest.raises(RequestError) as caught:
            asked[name].done.result(10)
        assert caught.value.kind == "Timeout"
    assert session.tokens[1:] == [[[3, 3, 3, 3]]]
    assert sorted(records.reasons) == ["gone", "timeout"]
    with pytest.raises(RequestError, match="deadline"):
        Asked([[1]], Caller(deadline=time.monotonic() - 1)).submit(scheduler, lane)


def test_of_a_batch_that_fails_only_the_poison_fails(
    scheduler: Scheduler, lane: TextLane, session: FakeSession, records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    held(scheduler, lane, session)
    good = [Asked([[number, number]]).submit(scheduler, lane) for number in range(1, 12)]
    bad = Asked([[1, 2], [POISON, 3], [4, 5]]).submit(scheduler, lane)
    with caplog.at_level(logging.INFO):
        session.free.set()
        for asked in good:
            asked.check()
        with pytest.raises(RequestError, match="The engine failed") as caught:
            bad.done.result(10)
    assert caught.value.kind == "Backend"
    assert records.failures >= 2
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text + str(caught.value)
    Asked([[6]]).submit(scheduler, lane).check()
    assert bad.delivered == 1


def test_a_batch_that_cannot_be_laid_out_does_not_hold_up_those_behind_it(
    scheduler: Scheduler, lane: TextLane, session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out = lane._batches.lay_out

    def fails(rows: Any, tokens: Any) -> Any:
        if any(POISON in row for row in tokens):
            raise MemoryError
        return lay_out(rows, tokens)

    monkeypatch.setattr(lane._batches, "lay_out", fails)
    first = held(scheduler, lane, session)
    bad = Asked([[POISON]] * 2).submit(scheduler, lane)
    good = [Asked([[number]] * 40).submit(scheduler, lane) for number in range(1, 6)]
    session.free.set()
    for asked in [first, *good]:
        asked.check()
    with pytest.raises(RequestError, match="The engine failed"):
        bad.done.result(10)


def test_too_much_work_is_refused_at_once(lane: TextLane, session: FakeSession, scheduler: Scheduler) -> None:
    lane.rate.learn(1, 0.01)  # 10 ms a token
    scheduler.wait_seconds = 5
    held(scheduler, lane, session)
    accepted = []
    with pytest.raises(RequestError) as caught:  # noqa: PT012
        for _ in range(1000):
            accepted.append(Asked([[1] * 20]).submit(scheduler, lane))  # 0.2 s each
    assert caught.value.kind == "Overloaded"
    assert caught.value.retry_after is not None
    assert 24 <= len(accepted) <= 27
    scheduler.wait_seconds = 6
    assert scheduler.busy() is None
    scheduler.wait_seconds = 4
    assert scheduler.busy() == pytest.approx(2, abs=0.5)
    scheduler.wait_seconds = 5
    # A long request is no reason to refuse a short one, which overtakes it.
    session.free.set()
    for each in accepted:
        each.check()
    lane.rate.seconds = 0.01
    first = held(scheduler, lane, session)
    long = Asked([[1] * 50 for _ in range(100)]).submit(scheduler, lane)  # 50 s, and nothing before it
    short = Asked([[2] * 20]).submit(scheduler, lane)
    with pytest.raises(RequestError):
        Asked([[1] * 50 for _ in range(100)]).submit(scheduler, lane)
    session.free.set()
    for each in (first, long, short):
        each.check()


def test_the_queue_is_bounded(lane: TextLane, session: FakeSession, scheduler: Scheduler, records: Records) -> None:
    scheduler.queue_items = 10
    first = held(scheduler, lane, session)
    large = Asked([[1]] * 12).submit(scheduler, lane)  # nothing else waits
    with pytest.raises(RequestError):
        Asked([[1]]).submit(scheduler, lane)
    assert records.reasons == ["overloaded"]
    session.free.set()
    first.check()
    large.check()


def test_what_waits_when_it_is_closed_fails(session: FakeSession) -> None:
    scheduler, lane = Scheduler(), lane_of(session)
    scheduler.add(lane)
    scheduler.start()
    first = held(scheduler, lane, session)
    waiting = Asked([[2]]).submit(scheduler, lane)
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    time.sleep(0.05)
    session.free.set()
    closing.join(10)
    first.check()
    with pytest.raises(RequestError, match="stops"):
        waiting.done.result(1)
    with pytest.raises(RequestError, match="stops"):
        Asked([[1]]).submit(scheduler, lane)


def test_a_thread_that_ended_and_a_batch_that_does_not_end_are_told(
    scheduler: Scheduler, lane: TextLane, session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scheduler.stuck() is None
    held(scheduler, lane, session)
    now = time.monotonic()
    monkeypatch.setattr("runtime.serve.scheduling.scheduler.time.monotonic", lambda: now + 3600)
    assert scheduler.stuck() == "a batch does not end"
    monkeypatch.undo()
    assert scheduler.stuck() is None
    session.free.set()


def test_batches_that_are_cheaper_together_are_joined() -> None:
    wide, narrow = (Row(96, (1, 2)), Row(96, (3,))), (Row(88, (0,)),)
    assert choose([wide, narrow], 1024) == [Row(96, (0,)), Row(96, (1, 2)), Row(96, (3,))]
    assert choose([wide, narrow], 200) == [Row(88, (0,))], "beyond the budget"
    assert choose([(Row(512, (1,)),), narrow], 1024) == [Row(88, (0,))], "too much padding"
    assert choose([(Row(96, (0,)),), (Row(96, (1,)),)], 1024) == [Row(96, (0,)), Row(96, (1,))]


def test_a_few_texts_are_computed_with_little_padding() -> None:
    assert balanced([43], 512) == [Row(48, (0,))]
    assert balanced([8, 5, 2], 512) == [Row(16, (0, 1, 2))]
    rows = balanced([60, 58, 40, 44, 20, 10], 512)
    assert rows is not None
    assert sorted(text for row in rows for text in row.texts) == list(range(6))
    assert len({row.width for row in rows}) == 1
    assert sum(row.width for row in rows) <= 1.15 * 232
    assert balanced([500, 400], 512) == [Row(512, (0,)), Row(512, (1,))], "one row would be too wide"
    assert balanced([12] * 5, 12) == [Row(12, (text,)) for text in range(5)], "a model that reads 12 tokens"
    assert balanced([1] * 100, 512) is None


def test_rows_are_fuller_than_first_come_first_served() -> None:
    """Over texts as they come, with a full queue: the share of tokens that is no padding."""
    chance = random.Random(1)
    session = FakeSession()
    lane = lane_of(session, 1024)
    from runtime.serve.scheduling.jobs import Item, Job
    from runtime.serve.scheduling.text_lane import TextItem

    into = np.zeros(2, np.float32)
    lengths = [chance.choice([6, 12, 20, 35, 50, 80, 120, 200]) for _ in range(600)]
    job = Job(Caller(), "text", lambda error: None)
    lane.queue.push(job, [Item(job, TextItem([1] * length, "text_embeds", into), 0.01, length) for length in lengths])
    while len(lane.queue) > 100:
        batch = lane.form()
        batch.prepare()
        batch.compute()
    filled = sum(len(row) for batch in session.tokens for row in batch) / sum(
        rows * width for rows, width in session.calls
    )
    assert filled > 0.97
