"""A bound on how long a coroutine may wait; cheaper than `asyncio.wait_for`, which makes a task for it."""

from __future__ import annotations

import asyncio
from types import TracebackType

__all__ = ["TimeLimit"]


class TimeLimit:
    """Raises asyncio.TimeoutError in a `with` block that takes longer; `asyncio.timeout` of Python 3.11 is alike.

    Used in a coroutine, by the task that runs it. A cancellation from elsewhere passes.

    Attributes:
        expired: whether it took longer.
    """

    def __init__(self, seconds: float) -> None:
        """Bound the block.

        Args:
            seconds: from its beginning on.
        """
        self._seconds = seconds
        self.expired = False
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> TimeLimit:
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, self._seconds), self._expire)
        return self

    def _expire(self) -> None:
        assert self._task is not None
        self.expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._timer is not None
        self._timer.cancel()
        if not self.expired or kind is not asyncio.CancelledError:
            return
        # Since Python 3.11 a task counts who cancels it: where somebody else did as well, it ends.
        uncancel = getattr(self._task, "uncancel", None)
        if uncancel is not None and uncancel() > 0:
            return
        raise asyncio.TimeoutError from None
