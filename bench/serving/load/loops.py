"""The two kinds of load: a closed loop, where each connection waits for its answer, and an open one, where nobody does.

In the open loop a request's latency counts from when it was due. A client that waits for a slow answer before it sends
the next request measures too few slow ones ("coordinated omission"); here those that were due meanwhile count theirs.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.serving.load.connection import NEVER, NO_CONNECTION, Answer, Connection, connect
from bench.serving.load.outcome import LEFT, Record
from bench.serving.load.plan import Plan, Stream, arrival_times

__all__ = ["run_plan"]

_NO_CONNECTION = Answer(NO_CONNECTION, b"", closes=True)


async def run_plan(plan: Plan, requests: Sequence[bytes]) -> list[Record]:
    """Run the streams of a plan side by side.

    Args:
        plan: what to do.
        requests: whole requests of HTTP, by number.

    Returns:
        A record for each request that was due, in the order in which they ended.
    """
    records: list[Record] = []
    loads = [_Load(number, stream, plan, requests, records) for number, stream in enumerate(plan.streams)]
    await asyncio.gather(*(load.closed() if load.stream.rate is None else load.open() for load in loads))
    return records


@dataclass
class _Load:
    number: int
    stream: Stream
    plan: Plan
    requests: Sequence[bytes]
    records: list[Record]
    idle: list[Connection] = field(default_factory=list)

    async def closed(self) -> None:
        """Every connection sends, waits, sends."""
        stream = self.stream
        order = itertools.islice(itertools.cycle(stream.requests), stream.count)
        end = None if stream.seconds is None else time.perf_counter() + stream.seconds
        leaving = self._leaving()
        await asyncio.gather(*(self._one_after_another(order, end, leaving) for _ in range(stream.connections)))

    async def _one_after_another(
        self, order: Iterator[int], end: float | None, leaving: Callable[[], float | None]
    ) -> None:
        connection: Connection | None = None
        while end is None or time.perf_counter() < end:
            number = next(order, None)
            if number is None:
                break
            connection = await self._answered(number, time.perf_counter(), connection, leaving())
            if connection is None and self.records[-1].status == NO_CONNECTION:
                await asyncio.sleep(self.stream.pause)
        if connection is not None:
            connection.close()

    async def open(self) -> None:
        """Requests are sent when they are due, whatever became of those before."""
        stream = self.stream
        times = arrival_times(stream.rate or 1.0, stream.seconds, stream.count, stream.seed)
        room = asyncio.Semaphore(stream.connections)
        leaving = self._leaving()
        tasks: set[asyncio.Task[None]] = set()
        start = time.perf_counter()
        for due, number in zip((times + start).tolist(), itertools.cycle(stream.requests)):
            delay = due - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            task = asyncio.create_task(self._sent_when_due(number, due, room, leaving()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self.plan.patience)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for connection in self.idle:
            connection.close()

    async def _sent_when_due(self, number: int, due: float, room: asyncio.Semaphore, leave: float | None) -> None:
        try:
            async with room:
                connection = self.idle.pop() if self.idle else None
                connection = await self._answered(number, due, connection, leave)
                if connection is not None:
                    self.idle.append(connection)
        except asyncio.CancelledError:
            now = time.perf_counter()
            self.records.append(Record(self.number, number, due, now, now, NEVER, -1.0, b""))

    async def _answered(
        self, number: int, due: float, connection: Connection | None, leave: float | None
    ) -> Connection | None:
        """Send a request and note what became of it; returns the connection while it is of use."""
        if connection is None or connection.ended:
            connection = await connect(self.plan.host, self.plan.port)
        begun = time.perf_counter()
        answer, status = _NO_CONNECTION, NO_CONNECTION
        if connection is not None:
            waiting = connection.ask(self.requests[number], self.plan.patience)
            if leave is None:
                answer = await waiting
                status = answer.status
            else:
                done, _ = await asyncio.wait([waiting], timeout=leave)
                status = waiting.result().status if done else LEFT
                answer = waiting.result() if done else _NO_CONNECTION
                connection.close()
        body = answer.body if self.plan.bodies else b""
        ended = time.perf_counter()
        self.records.append(Record(self.number, number, due, begun, ended, status, answer.retry_after, body))
        if connection is None or answer.closes or connection.ended:
            if connection is not None:
                connection.close()
            return None
        return connection

    def _leaving(self) -> Callable[[], float | None]:
        """Draws after how many seconds the next request's client leaves; None for one that stays."""
        stream = self.stream
        rng = np.random.default_rng([stream.seed, self.number, 1])
        if not stream.leave:
            return lambda: None
        return lambda: float(rng.uniform(0, stream.leave_seconds)) if rng.random() < stream.leave else None
