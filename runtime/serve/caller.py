"""One request, as those see it who work for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from runtime.serve.request_errors import RequestError

__all__ = ["CURRENT", "LATE", "Caller", "Timings"]

LATE = "The deadline passed before the request was answered. Give it more time."


@dataclass
class Timings:
    """What a request cost, in seconds, added up over its parts.

    Attributes:
        tokenization: reading its texts.
        decoding: reading its images.
        queue: the longest that a part of it waited for the engine.
        inference: the batches that its parts were in.
        tokens: of its texts, special tokens counted.
        characters: of its texts.
        items: its texts and images.
    """

    tokenization: float = 0.0
    decoding: float = 0.0
    queue: float = 0.0
    inference: float = 0.0
    tokens: int = 0
    characters: int = 0
    items: int = 0


@dataclass
class Caller:
    """Who waits for an answer; used on the event loop alone, but for `gone`, which any thread may read.

    Attributes:
        request_id: sent back and logged.
        deadline: `time.monotonic()` after which nobody waits any more; None for no bound.
        timings: what it cost so far.
        gone: the client left, or its deadline has passed: what was not begun is not computed.
    """

    request_id: str = ""
    deadline: float | None = None
    timings: Timings = field(default_factory=Timings)
    gone: bool = False
    _on_leave: list[Callable[[], None]] = field(default_factory=list, repr=False)

    def leave(self) -> None:
        """The client left: drop its work that was not begun."""
        self.gone = True
        for call in self._on_leave:
            call()
        self._on_leave.clear()

    def on_leave(self, call: Callable[[], None]) -> None:
        """Call this when the client leaves."""
        self._on_leave.append(call)

    def remaining(self) -> float | None:
        """Seconds until the deadline, at least 0; None for no bound."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def check(self) -> None:
        """Raise RequestError where the deadline has passed."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise RequestError("Timeout", LATE)


# On whose behalf a thread calls an engine's methods.
CURRENT: ContextVar[Caller | None] = ContextVar("caller", default=None)
