"""Against asyncio's own, where there is one."""

from __future__ import annotations

import asyncio
import time

import pytest

from runtime.serve.time_limits import TimeLimit


def test_what_is_in_time_gives_its_result() -> None:
    async def run() -> str:
        with TimeLimit(5) as limit:
            found = await asyncio.sleep(0.01, "done")
        await asyncio.sleep(0)
        assert not limit.expired
        return found

    assert asyncio.run(run()) == "done"


@pytest.mark.parametrize("seconds", [0.05, 0, -1])
def test_what_is_late_is_ended_and_the_task_goes_on(seconds: float) -> None:
    async def run() -> bool:
        began = time.monotonic()
        limit = TimeLimit(seconds)
        with pytest.raises(asyncio.TimeoutError), limit:
            await asyncio.sleep(20)
        assert time.monotonic() - began < 5
        await asyncio.sleep(0.01)  # nothing is left of the cancellation
        return limit.expired

    assert asyncio.run(run())


def test_a_cancellation_from_elsewhere_passes() -> None:
    async def work() -> None:
        with TimeLimit(20):
            await asyncio.sleep(20)

    async def run() -> None:
        task = asyncio.ensure_future(work())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_limits_within_limits() -> None:
    async def run(inner: float, outer: float) -> str:
        try:
            with TimeLimit(outer):
                try:
                    with TimeLimit(inner):
                        await asyncio.sleep(20)
                except asyncio.TimeoutError:
                    return "inner"
        except asyncio.TimeoutError:
            return "outer"
        return "none"

    assert asyncio.run(run(0.02, 5)) == "inner"
    assert asyncio.run(run(5, 0.02)) == "outer"


def test_other_errors_pass() -> None:
    async def run() -> None:
        with TimeLimit(5):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        asyncio.run(run())
