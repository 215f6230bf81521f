"""What handlers of requests share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.serve.limits import Limits

if TYPE_CHECKING:
    from runtime.retrieval.index import Index
    from runtime.serve.models.contract import ServedModels

__all__ = ["TASKS", "ServedIndex", "Server"]

TASKS = ("fill-mask", "feature-extraction", "zero-shot-image-classification", "sentence-similarity")


@dataclass(frozen=True)
class ServedIndex:
    """An index that can be searched.

    Attributes:
        name: that clients call it by.
        index: itself.
        root: folder that its pictures' relative paths start from; None shows none.
        model: the bundle that searches it where a request names none; None for the default one.
    """

    name: str
    index: Index
    root: Path | None = None
    model: str | None = None


@dataclass
class Server:
    """What handlers of requests share: `request.app.state.server`.

    Attributes:
        models: the bundles.
        limits: every bound.
        metrics: an `operation.metrics.Metrics`.
        indexes: by name.
        task: what `POST /` is: one of `TASKS`.
        page: whether `GET /` is the page for people.
        auto_truncate: whether texts that are too long are cut where neither request nor bundle says.
        not_ready: why nothing more may be sent here, whatever the models say: the server stops, say. Empty: it may.
    """

    models: ServedModels
    limits: Limits = field(default_factory=Limits)
    metrics: Any = None
    indexes: Mapping[str, ServedIndex] = field(default_factory=dict)
    task: str = TASKS[0]
    page: bool = True
    auto_truncate: bool = False
    not_ready: str = ""

    def ready(self) -> tuple[bool, str]:
        """Whether requests should be sent here now, and in a word why not."""
        return (False, self.not_ready) if self.not_ready else self.models.ready()
