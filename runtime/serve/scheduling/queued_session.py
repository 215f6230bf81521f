"""A session whose calls wait for their turn among all other work of the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.engines import Session
from runtime.serve.caller import CURRENT, Caller
from runtime.serve.scheduling.graph_lane import GraphCall, GraphLane
from runtime.serve.scheduling.jobs import Item, Job
from runtime.serve.scheduling.scheduler import Scheduler

__all__ = ["QueuedSession"]

_PIXELS = "pixel_values"


class QueuedSession:
    """What an engine of the server computes on; see `runtime.load`, `wrap_session`.

    So `classify`, `ground` and whatever an engine offers run as they are, on threads of their own, and only their calls
    of graphs wait for the engine, together with those of other callers. Of whom they are `caller.CURRENT` says.

    Attributes:
        inner: the session itself, for the scheduler's threads alone.
    """

    def __init__(self, inner: Session, scheduler: Scheduler, images: GraphLane, others: GraphLane) -> None:
        """Wrap a session.

        Args:
            inner: as it was opened.
            scheduler: that calls it.
            images: lane of calls that read pixels.
            others: lane of the other calls.
        """
        self.inner = inner
        self._scheduler = scheduler
        self._images = images
        self._others = others

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Compute the named outputs; waits for them.

        Raises:
            RequestError: the server has too much work (429), nobody waits any more (504), it stops (503), or the engine
                failed (500).
        """
        lane = self._images if _PIXELS in inputs else self._others
        call = GraphCall(self.inner, tuple(outputs), inputs)
        done: Future[None] = Future()

        def deliver(error: Exception | None) -> None:
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        caller = CURRENT.get()
        job = Job(caller or Caller(), lane.kind, deliver)
        item = Item(job, call, call.rows * lane.rate(call).seconds, call.rows)
        self._scheduler.submit(lane, job, [item], checked=caller is not None)
        done.result()
        return call.found
