"""Who is told what the scheduler does: the server's metrics, or nobody."""

from __future__ import annotations

from typing import Protocol

__all__ = ["KINDS", "NoObserver", "Observer"]

# Kinds of work.
KINDS = ("text", "mask", "image", "call")


class Observer(Protocol):
    """Told of what happens; called from the event loop and from the scheduler's threads, and returns at once."""

    def batch(self, kind: str, items: int, tokens: int, seconds: float) -> None:
        """A batch was computed; tokens of texts, padding left out."""

    def queue(self, kind: str, items: int) -> None:
        """So many items of a kind wait now."""

    def wait(self, kind: str, seconds: float) -> None:
        """An item left the queue for the engine after so long."""

    def rejected(self, reason: str) -> None:
        """Work was refused or dropped: "overloaded", "timeout", "gone", "draining"."""

    def failed(self, kind: str) -> None:
        """The engine raised for a batch."""


class NoObserver:
    """An observer whom nothing interests."""

    def batch(self, kind: str, items: int, tokens: int, seconds: float) -> None:
        """See `Observer`."""

    def queue(self, kind: str, items: int) -> None:
        """See `Observer`."""

    def wait(self, kind: str, seconds: float) -> None:
        """See `Observer`."""

    def rejected(self, reason: str) -> None:
        """See `Observer`."""

    def failed(self, kind: str) -> None:
        """See `Observer`."""
