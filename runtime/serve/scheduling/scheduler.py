"""The threads that feed the engine: a batch has all of its threads, or several are computed side by side.

A batch is formed when the engine is free, from all that waits then: an idle server adds no waiting, and batches grow
with the load. While much waits the next one is formed and laid out during the one before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from runtime.errors import CxrEngineError
from runtime.serve.caller import LATE
from runtime.serve.request_errors import RequestError
from runtime.serve.scheduling.backlog import Backlog
from runtime.serve.scheduling.engine_turns import EngineTurns
from runtime.serve.scheduling.jobs import Item, Job
from runtime.serve.scheduling.lanes import Batch, Lane
from runtime.serve.scheduling.observer import NoObserver, Observer

__all__ = ["Scheduler"]

_LOG = logging.getLogger("runtime.serve")
# At least: one computes, the other lays out.
_THREADS = 2
# A batch that takes so many times its estimate, and at least so many seconds, will not end any more.
_STUCK_TIMES, _STUCK_SECONDS = 50.0, 60.0
_LEFT = "The client left before the request was answered."


class Scheduler:
    """Computes what is submitted, in the order in which it is due.

    Attributes:
        wait_seconds: of other callers' work ahead of a job, as predicted, beyond which it is refused.
        queue_items: items that may wait.
    """

    def __init__(
        self, *, wait_seconds: float = 10.0, queue_items: int = 16_384, observer: Observer | None = None
    ) -> None:
        """No lanes yet; `start` begins."""
        self.wait_seconds = wait_seconds
        self.queue_items = queue_items
        self._observer = observer or NoObserver()
        self._lanes: list[Lane] = []
        self._changed = threading.Condition(threading.Lock())
        self._engine = EngineTurns()
        self._backlog = Backlog()
        self._formed = 0
        self._running: dict[Batch, tuple[float, float]] = {}  # since when, and its estimate
        self._closed = False
        self._threads: list[threading.Thread] = []

    def add(self, lane: Lane) -> None:
        """Add a lane."""
        with self._changed:
            self._lanes.append(lane)
        while self._threads and len(self._threads) < lane.streams:
            self._add_thread()

    def remove(self, lane: Lane) -> None:
        """Remove a lane, in which nothing waits any more."""
        with self._changed:
            self._lanes.remove(lane)

    def start(self) -> None:
        """Begin to compute."""
        for _ in range(_THREADS):
            self._add_thread()

    def _add_thread(self) -> None:
        name = f"cxr-scheduler-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        """End the threads after the batches under way; what waits fails (503)."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._fail_all(RequestError("Unhealthy", "The server stops. Send the request again."))

    def submit(self, lane: Lane, job: Job, items: Sequence[Item[Any]], *, checked: bool = True) -> None:
        """Have a job's items computed; its `deliver` is called when all are, or when it has failed.

        Args:
            lane: that was added.
            job: a new one.
            items: at least one.
            checked: whether it may be refused; not where a part of its request was computed already.

        Raises:
            RequestError: too much waits (429), nobody waits for it any more (504), or the scheduler is closed (503).
        """
        job.caller.check()
        cost = sum(item.cost for item in items)
        with self._changed:
            if self._closed:
                raise RequestError("Unhealthy", "The server stops. Send the request again.")
            if checked:
                self._admit(job, cost, len(items))
            lane.queue.push(job, items)
            self._backlog.add(job)
            waiting = len(lane.queue)
            if not self._formed or lane.backlog():
                self._changed.notify()
        self._observer.queue(lane.kind, waiting)
        job.caller.on_leave(lambda: self._drop(lane, job))

    def busy(self) -> float | None:
        """Seconds after which a refused request may come again, where even a short one would be; else None.

        Without the lock: asked for every request, so that one too many costs next to nothing.
        """
        wait = self._backlog.short_left
        return self._again(wait) if wait > self.wait_seconds else None

    def _again(self, wait: float) -> float:
        return max(1.0, wait - 0.75 * self.wait_seconds)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is computed."""
        with self._changed:
            return not self._backlog.jobs

    def stuck(self) -> str | None:
        """Why only a restart helps, or None."""
        if any(not thread.is_alive() for thread in self._threads) and not self._closed:
            return "a thread of the scheduler has ended"
        for since, estimate in list(self._running.values()):
            if time.monotonic() - since > max(_STUCK_SECONDS, _STUCK_TIMES * estimate):
                return "a batch does not end"
        return None

    def _admit(self, job: Job, cost: float, items: int) -> None:
        wait = self._backlog.ahead(time.monotonic(), cost)
        waiting = sum(len(lane.queue) for lane in self._lanes)
        # What is larger than the queue is taken where nothing waits: it would otherwise never be.
        full = waiting > 0 and waiting + items > self.queue_items
        if wait <= self.wait_seconds and not full:
            return
        self._observer.rejected("overloaded")
        raise RequestError(
            "Overloaded",
            "The server has more work than it can do in time. Send the request again later.",
            retry_after=self._again(wait),
        )

    def _work(self) -> None:
        while True:
            with self._changed:
                while (formed := self._form()) is None:
                    if self._closed:
                        return
                    self._changed.wait()
            lane, batch, dropped, ticket = formed
            self._deliver(dropped)
            if batch is None:
                continue
            over: Iterable[Job] = ()
            try:
                over = self._execute(lane, batch, ticket)
            finally:
                with self._changed:
                    self._formed -= 1
                    self._changed.notify_all()
            self._deliver(over)  # while the next batch is computed

    def _form(self) -> tuple[Lane, Batch | None, list[Job], int] | None:
        """The next batch and its turn, or jobs that nobody waits for any more; None for nothing to do now. Locked."""
        if self._closed:
            return None
        due = [(first, lane) for lane in self._lanes if (first := lane.queue.first_due()) is not None]
        if not due:
            return None
        _, lane = min(due, key=lambda pair: pair[0])
        if self._formed and (self._formed >= max(lane.streams, _THREADS) or not lane.backlog()):
            return None
        dropped = self._remove(lane, lambda item: item.job.over)
        if dropped or not len(lane.queue):
            return lane, None, dropped, -1
        batch = lane.form()
        now = time.monotonic()
        for item in batch.items:
            self._backlog.begin(item)
            waited = now - item.job.arrival
            item.job.caller.timings.queue = max(item.job.caller.timings.queue, waited)
            self._observer.wait(lane.kind, waited)
        self._formed += 1
        self._observer.queue(lane.kind, len(lane.queue))
        return lane, batch, [], self._engine.ticket()

    def _remove(self, lane: Lane, unwanted: Callable[[Item[Any]], bool]) -> list[Job]:
        """Take items out that are not to be computed; the jobs that are thereby over. Locked."""
        removed = lane.queue.remove(unwanted)
        for item in removed:
            self._backlog.begin(item)
            item.job.pending -= 1
        over = {item.job for item in removed}
        for job in over:
            if job.error is None:
                gone = job.caller.gone
                job.error = RequestError("Timeout", _LEFT if gone else LATE)
                self._observer.rejected("gone" if gone else "timeout")
        return list(over)

    def _drop(self, lane: Lane, job: Job) -> None:
        """The job's caller left."""
        with self._changed:
            dropped = self._remove(lane, lambda item: item.job is job)
        self._deliver(dropped)

    def _execute(self, lane: Lane, batch: Batch, ticket: int | None = None) -> Iterable[Job]:
        """Compute a batch; of one that fails the halves are tried again, so that one item fails alone.

        Args:
            lane: of the batch.
            batch: that was formed.
            ticket: of `EngineTurns`; None for what is tried again.

        Returns:
            Jobs that are over and not yet delivered.
        """
        unprepared = _prepared(batch)
        try:
            with self._engine.turn(ticket, batch.alone, lane.streams):
                if unprepared is not None:
                    raise unprepared
                seconds = self._run(batch)
        except Exception as error:  # whatever the engine raises; the log has no message, which may quote an input
            _LOG.error("%d items of kind %s failed: %s", len(batch.items), lane.kind, type(error).__name__)
            self._observer.failed(lane.kind)
            return self._retry(lane, batch, error)
        batch.rate.learn(batch.units, seconds if batch.alone else seconds / lane.streams)
        self._observer.batch(lane.kind, len(batch.items), batch.tokens, seconds)
        for job in {item.job for item in batch.items}:
            job.caller.timings.inference += seconds
        return self._settle(batch, None)

    def _run(self, batch: Batch) -> float:
        """Compute on the engine; the seconds that it took."""
        began = time.monotonic()
        self._running[batch] = (began, batch.units * batch.rate.seconds)
        try:
            batch.compute()
        finally:
            del self._running[batch]
        return time.monotonic() - began

    def _retry(self, lane: Lane, batch: Batch, error: Exception) -> Iterable[Job]:
        if len(batch.items) == 1:
            return self._settle(batch, error)
        middle = len(batch.items) // 2
        for half in (batch.items[:middle], batch.items[middle:]):
            for smaller in lane.group(half):
                self._deliver(self._execute(lane, smaller))
        return ()

    def _settle(self, batch: Batch, error: Exception | None) -> set[Job]:
        """A batch's items were computed, or failed; the jobs that are thereby over."""
        if error is not None and not isinstance(error, (CxrEngineError, RequestError)):
            failure = RequestError("Backend", "The engine failed on this request.")
            failure.__cause__ = error
            error = failure
        with self._changed:
            for item in batch.items:
                item.job.pending -= 1
                item.job.error = item.job.error or error
            return {item.job for item in batch.items if item.job.pending == 0 or item.job.error is not None}

    def _deliver(self, jobs: Iterable[Job]) -> None:
        """Tell those whose jobs are over, each once."""
        with self._changed:
            over = [job for job in jobs if job in self._backlog.jobs]
            self._backlog.jobs.difference_update(over)
        for wake in {job.deliver(job.error) for job in over}:
            if wake is not None:
                wake()

    def _fail_all(self, error: RequestError) -> None:
        with self._changed:
            waiting = list(self._backlog.jobs)
            for job in waiting:
                job.error = job.error or error
            for lane in self._lanes:
                self._remove(lane, lambda item: True)
        self._deliver(waiting)


def _prepared(batch: Batch) -> Exception | None:
    """Lay a batch out; what went wrong."""
    try:
        batch.prepare()
    except Exception as error:
        return error
    return None
