"""The jobs that are not done, and how long a new one would wait for them."""

from __future__ import annotations

from typing import Any

from runtime.serve.scheduling.jobs import STRETCH, Item, Job

__all__ = ["Backlog"]


class Backlog:
    """Jobs that were submitted and not yet delivered; used under the scheduler's lock.

    Attributes:
        jobs: all of them.
        short_left: estimated seconds of the short ones' items that wait.
    """

    def __init__(self) -> None:
        self.jobs: set[Job] = set()
        self.short_left = 0.0

    def add(self, job: Job) -> None:
        """Take in a job whose items are in their queue."""
        self.jobs.add(job)
        if job.short:
            self.short_left += job.cost

    def begin(self, item: Item[Any]) -> None:
        """An item left its queue."""
        item.job.left -= item.cost
        if item.job.short:
            self.short_left -= item.cost

    def ahead(self, now: float, cost: float) -> float:
        """Seconds of other jobs' work that would be computed before a new job that takes so long.

        Args:
            now: `time.monotonic()`.
            cost: seconds.
        """
        # Long jobs are looked at one by one; of short ones, which may be thousands, all are ahead of a new one.
        ahead = self.short_left
        for job in self.jobs:
            if not job.short:
                ahead += min(job.left, max(0.0, (now - job.arrival) / STRETCH + cost))
        return ahead
