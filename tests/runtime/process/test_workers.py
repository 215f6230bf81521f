"""Work on several threads comes back in order, in bounded memory, and stops when it is told to."""

from __future__ import annotations

import os
import threading
import time
from itertools import count

import pytest

from runtime.process.workers import ordered_map
from tests.runtime.sessions import threads_left


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    def slow_at_first(item: int) -> int:
        time.sleep(0.02 if item % 4 == 0 else 0)
        return item * item

    assert list(ordered_map(slow_at_first, range(30), workers)) == [item * item for item in range(30)]
    assert list(ordered_map(slow_at_first, [], workers)) == []
    assert not threads_left()


@pytest.mark.parametrize("workers", [1, 3])
def test_few_items_are_under_way(workers: int) -> None:
    """From being taken to being consumed, of an endless iterable."""
    taken = 0

    def endless():
        nonlocal taken
        for item in count():
            taken += 1
            yield item

    results = ordered_map(lambda item: item, endless(), workers)
    most = 0
    for consumed, _ in zip(range(50), results, strict=False):
        most = max(most, taken - consumed)
    results.close()
    assert most == workers + 2
    assert not threads_left()


def test_workers_compute_side_by_side() -> None:
    """Three that wait for each other can only finish together."""
    barrier = threading.Barrier(3, timeout=20)
    assert len(list(ordered_map(lambda item: barrier.wait(), range(9), 3))) == 9


def test_without_workers_everything_happens_here_and_one_by_one() -> None:
    taken = []

    def items():
        for item in range(5):
            taken.append(item)
            yield item

    results = ordered_map(lambda item: threading.current_thread(), items(), 0)
    assert taken == []
    assert next(results) is threading.current_thread()
    assert taken == [0]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_the_function_raises_comes_at_its_turn(workers: int) -> None:
    def fails_at_7(item: int) -> int:
        if item == 7:
            raise ZeroDivisionError(item)
        return item

    results = ordered_map(fails_at_7, range(100), workers)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert not threads_left()


@pytest.mark.parametrize("workers", [0, 2])
def test_what_the_items_raise_comes_through(workers: int) -> None:
    def items():
        yield 1
        raise OSError("torn")

    with pytest.raises(OSError, match="torn"):
        list(ordered_map(lambda item: item, items(), workers))
    assert not threads_left()


def test_a_caller_who_stops_early_waits_for_the_running_work_only() -> None:
    begun, release = [], threading.Event()

    def work(item: int) -> int:
        begun.append(item)
        if item:
            release.wait(20)
        return item

    results = ordered_map(work, range(1000), 2)
    assert next(results) == 0
    threading.Timer(0.1, release.set).start()
    results.close()
    assert not threads_left()
    assert len(begun) <= 4


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux alone tells and sets it")
def test_each_worker_keeps_to_a_processor_of_its_own_where_there_is_one() -> None:
    before = os.sched_getaffinity(0)
    together = threading.Barrier(len(before), timeout=60)

    def affinity(_: int) -> frozenset[int]:
        together.wait()
        return frozenset(os.sched_getaffinity(0))

    pinned = list(ordered_map(affinity, range(len(before)), len(before), pinned=True))
    assert set(pinned) == {frozenset({processor}) for processor in before}
    together = threading.Barrier(len(before) + 1, timeout=60)
    free = list(ordered_map(affinity, range(len(before) + 1), len(before) + 1, pinned=True))
    assert set(free) == {frozenset(before)}, "a thread more than processors"
    together = threading.Barrier(len(before), timeout=60)
    assert set(ordered_map(affinity, range(len(before)), len(before))) == {frozenset(before)}
    assert os.sched_getaffinity(0) == before, "the caller goes where it went"
