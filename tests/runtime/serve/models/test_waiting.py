from __future__ import annotations

import asyncio
import threading

import pytest

from runtime.serve.models.waiting import Deliveries


class CountingLoop:
    """An event loop whose awakenings are counted."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.woken = 0

    def create_future(self) -> asyncio.Future[None]:
        return self.loop.create_future()

    def call_soon_threadsafe(self, call: object) -> None:
        self.woken += 1
        self.loop.call_soon_threadsafe(call)  # type: ignore[arg-type]


def test_what_is_delivered_together_wakes_the_loop_once() -> None:
    async def run() -> None:
        loop = CountingLoop(asyncio.get_running_loop())
        deliveries = Deliveries(loop)  # type: ignore[arg-type]
        pairs = [deliveries.future() for _ in range(5)]
        gone, end_gone = deliveries.future()
        gone.cancel()

        def other() -> None:
            errors = [None, ValueError("bad"), None, None, None]
            wakes = {end(error) for (_, end), error in zip(pairs, errors, strict=True)} | {end_gone(None)}
            for wake in wakes:
                wake()

        thread = threading.Thread(target=other)
        thread.start()
        with pytest.raises(ValueError, match="bad"):
            await pairs[1][0]
        for number in (0, 2, 3, 4):
            await pairs[number][0]
        thread.join()
        assert loop.woken == 1

    asyncio.run(run())


def test_a_loop_that_was_closed_is_told_nothing() -> None:
    loop = asyncio.new_event_loop()
    _, end = Deliveries(loop).future()
    loop.close()
    end(None)()
