"""One graph, opened for two uses: to answer a single call soonest, and to get most done."""

from __future__ import annotations

from collections.abc import Callable

from runtime.engines.session import Session
from runtime.process.forks import ForkSafeLock, generation

__all__ = ["Sessions"]


class Sessions:
    """A graph's session for single calls, and one for bulk work that is opened when there is some.

    In a forked child both are opened again when they are first needed: the parent's are of no use there.

    Attributes:
        streams: calls that `bulk` computes side by side.
        apart: whether `bulk` has a session of its own even with one stream.
        pinned: whether callers of `bulk` should each keep to a processor of their own, see `ordered_map`.
    """

    def __init__(
        self, open_session: Callable[[int], Session], streams: int, *, apart: bool = False, pinned: bool = False
    ) -> None:
        """Open the session for single calls.

        Args:
            open_session: number of streams → session.
            streams: of the session for bulk work; with 1 it is the one for single calls, but for `apart`.
            pinned: for engines that compute on the callers' threads.
            apart: for engines that prepare themselves for the shape of a call and forget the one before.
        """
        self.streams = streams
        self.apart = apart
        self.pinned = pinned and streams > 1
        self._open = open_session
        self._lock = ForkSafeLock()
        self._single = open_session(1)
        self._bulk: Session | None = None
        self._generation = generation()

    @property
    def single(self) -> Session:
        """One call at a time on all threads.

        Raises:
            BundleError, ProviderError: this process was forked, and it cannot be opened again.
        """
        if self._generation != generation():
            with self._lock:
                if self._generation != generation():
                    self._single, self._bulk = self._open(1), None
                    self._generation = generation()  # last: other threads look at it without the lock
        return self._single

    def bulk(self) -> Session:
        """The session for bulk work.

        Raises:
            BundleError: the bundle was replaced or changed after it was loaded.
            ProviderError: it cannot be opened.
        """
        single = self.single
        if self.streams == 1 and not self.apart:
            return single
        with self._lock:
            if self._bulk is None:
                self._bulk = self._open(self.streams)
            return self._bulk
