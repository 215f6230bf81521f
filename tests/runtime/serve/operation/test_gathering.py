from __future__ import annotations

import asyncio

from runtime.serve.operation.gathering import Gathering


class Transport:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def close(self) -> None:
        self.calls.append("close")

    def write_eof(self) -> None:
        self.calls.append("eof")

    def abort(self) -> None:
        self.calls.append("abort")

    def get_write_buffer_size(self) -> int:
        return 5

    def is_closing(self) -> bool:
        return False


def test_what_is_written_in_a_turn_leaves_together() -> None:
    async def run() -> None:
        inner = Transport()
        gathering = Gathering(inner, asyncio.get_running_loop())
        gathering.write(b"head ")
        gathering.write(b"body")
        assert not inner.calls
        assert gathering.get_write_buffer_size() == 14
        await asyncio.sleep(0)
        assert inner.calls == [b"head body"]
        gathering.write(b"more")
        gathering.flush()
        assert inner.calls == [b"head body", b"more"]
        await asyncio.sleep(0)
        assert len(inner.calls) == 2, "nothing is left"
        large = bytes(1 << 20)
        gathering.write(b"head")
        gathering.write(large)
        gathering.flush()
        assert inner.calls[2] == b"head"
        assert inner.calls[3] is large, "what is large is not copied"
        assert not gathering.is_closing()

    asyncio.run(run())


def test_nothing_written_is_lost_at_the_end() -> None:
    async def run() -> None:
        for end, last in (("close", "close"), ("write_eof", "eof")):
            inner = Transport()
            gathering = Gathering(inner, asyncio.get_running_loop())
            gathering.write(b"answer")
            getattr(gathering, end)()
            assert inner.calls == [b"answer", last]
        inner = Transport()
        gathering = Gathering(inner, asyncio.get_running_loop())
        gathering.write(b"answer")
        gathering.abort()
        await asyncio.sleep(0)
        assert inner.calls == ["abort"]

    asyncio.run(run())
