"""One graph, opened for two uses: to answer a single call soonest, and to get most done."""

from __future__ import annotations

import threading
from collections.abc import Callable

from runtime.session import Session

__all__ = ["Sessions"]


class Sessions:
    """A graph's session for single calls, and one for bulk work that is opened when there is some.

    Attributes:
        single: one call at a time on all threads.
        streams: calls that `bulk` computes side by side.
        apart: whether `bulk` has a session of its own even with one stream.
    """

    def __init__(self, open_session: Callable[[int], Session], streams: int, *, apart: bool = False) -> None:
        """Open the session for single calls.

        Args:
            open_session: number of streams → session.
            streams: of the session for bulk work; with 1 it is the one for single calls, but for `apart`.
            apart: for engines that prepare themselves for the shape of a call and forget the one before.
        """
        self.single = open_session(1)
        self.streams = streams
        self.apart = apart
        self._open = open_session
        self._bulk = self.single if streams == 1 and not apart else None
        self._lock = threading.Lock()

    def bulk(self) -> Session:
        """The session for bulk work.

        Raises:
            ProviderError: it cannot be opened.
        """
        with self._lock:
            if self._bulk is None:
                self._bulk = self._open(self.streams)
            return self._bulk
