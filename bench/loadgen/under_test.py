"""The system under test: it queues what LoadGen issues, and one thread hands what waits to the runtime's `encode`."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.errors import PeerError
from bench.loadgen.systems import Encode

__all__ = ["SystemUnderTest"]


class SystemUnderTest:
    """Answers LoadGen's queries.

    LoadGen calls from threads of its own, through C++, where an exception would end the process or be lost. They are
    kept instead, the queries completed without an answer, so that LoadGen ends, and `error` says what happened.

    A call never holds the same sample twice: the runtime computes equal texts once, which MLPerf's rules would call
    a cache.

    Attributes:
        error: the first exception, or None.
        failed: set when there is one.
    """

    def __init__(
        self,
        encode: Encode,
        library: Sequence[Any],
        most: int,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the thread that computes.

        Args:
            encode: samples → float32 (N, D).
            library: all samples; those that LoadGen has not loaded are not answered.
            most: samples in one call.
            alive: called after each call.
        """
        self.error: BaseException | None = None
        self.failed = threading.Event()
        self._encode = encode
        self._library = library
        self._loaded: set[int] = set()
        self._most = most
        self._alive = alive
        self._waiting: deque[tuple[int, int]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="system-under-test", daemon=True)
        self._thread.start()

    def load(self, indices: list[int]) -> None:
        """LoadGen's LoadSamplesToRam; they lie there already."""
        self._loaded.update(indices)

    def unload(self, indices: list[int]) -> None:
        """LoadGen's UnloadSamplesFromRam."""
        self._loaded.difference_update(indices)

    def issue(self, samples: Sequence[Any]) -> None:
        """LoadGen's IssueQuery: it returns at once."""
        asked = [(sample.id, sample.index) for sample in samples]
        with self._changed:
            self._waiting.extend(asked)
            self._changed.notify()

    def flush(self) -> None:
        """LoadGen's FlushQueries: nothing is held back."""

    def close(self) -> None:
        """End the thread when it has answered what waits; at once if it hangs."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(1.0)

    def _serve(self) -> None:
        while taken := self._take():
            try:
                self._answer(taken)
            except BaseException as error:  # to be raised where somebody can see it
                self.error = self.error or error
                self.failed.set()
                _complete([(query, 0, 0) for query in taken.values()])
            self._alive()

    def _take(self) -> dict[int, int]:
        """What waits, index → query, in order; empty when there is nothing more to come."""
        taken: dict[int, int] = {}
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            while self._waiting and len(taken) < self._most and self._waiting[0][1] not in taken:
                query, index = self._waiting.popleft()
                taken[index] = query
        return taken

    def _answer(self, taken: dict[int, int]) -> None:
        if self.error is not None:
            raise self.error
        if missing := taken.keys() - self._loaded:
            raise PeerError(f"LoadGen asks for samples that it has not loaded: {sorted(missing)[:5]}")
        embeddings = np.ascontiguousarray(self._encode([self._library[index] for index in taken]), np.float32)
        if embeddings.ndim != 2 or len(embeddings) != len(taken):
            raise PeerError(f"encode gives shape {embeddings.shape} for {len(taken)} samples, ({len(taken)}, D) is due")
        stride = embeddings.strides[0]
        start = embeddings.ctypes.data
        # LoadGen copies what it logs before this returns.
        _complete([(query, start + number * stride, stride) for number, query in enumerate(taken.values())])


def _complete(answers: list[tuple[int, int, int]]) -> None:
    import mlperf_loadgen

    mlperf_loadgen.QuerySamplesComplete([mlperf_loadgen.QuerySampleResponse(*answer) for answer in answers])
