"""The pictures that wait to be decoded: callers take turns, so that one who sends many holds up nobody."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from runtime.serve.caller import Caller
from runtime.serve.decoding.answers import Answer

__all__ = ["Job", "Line"]


@dataclass(eq=False)
class Job:
    """One picture that is to be decoded.

    Attributes:
        kind: what is asked for, see `answers`.
        image: the file.
        caller: who asks.
        answer: on the event loop of those who ask; None of a picture that nobody waited for any more.
        dropped: nobody waits for it any more.
        seconds: that it took, once it is decoded.
    """

    kind: bytes
    image: bytes
    caller: Caller
    answer: asyncio.Future[Answer | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    dropped: bool = False
    seconds: float = 0.0

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for it."""
        return not self.dropped and not self.caller.gone and self.caller.remaining() != 0.0


class Line:
    """Jobs in turn. Any thread may call."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._changed = threading.Condition()
        self._waiting: OrderedDict[int, deque[Job]] = OrderedDict()  # by caller, in the order of their turns
        self._count = 0
        self._closed = False

    def __len__(self) -> int:
        """Jobs that wait."""
        return self._count

    def put(self, jobs: Sequence[Job]) -> None:
        """Let jobs of one caller wait, in this order."""
        with self._changed:
            for job in jobs:
                self._waiting.setdefault(id(job.caller), deque()).append(job)
            self._count += len(jobs)
            self._changed.notify(len(jobs))

    def take(self) -> Job | None:
        """The job whose turn it is; waits for one. None once the line is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            caller, jobs = self._waiting.popitem(last=False)
            job = jobs.popleft()
            if jobs:
                self._waiting[caller] = jobs  # behind the others
            self._count -= 1
            return job

    def close(self) -> list[Job]:
        """Hand out nothing more; the jobs that still waited."""
        with self._changed:
            self._closed = True
            left = [job for jobs in self._waiting.values() for job in jobs]
            self._waiting.clear()
            self._count = 0
            self._changed.notify_all()
            return left
