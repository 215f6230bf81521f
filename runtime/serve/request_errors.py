"""What a client is told when it does not get what it asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["STATUS", "RefusedItem", "RequestError"]

# The kinds of errors, named as text-embeddings-inference names them where it has them, and their HTTP statuses. What it
# answers 424 to (Backend) is 500 here, which clients take for what it is.
STATUS: Mapping[str, int] = MappingProxyType(
    {
        "BadRequest": 400,
        "Empty": 400,
        "Unauthorized": 401,
        "Forbidden": 403,
        "NotFound": 404,
        "MethodNotAllowed": 405,
        "TooLarge": 413,
        "UnsupportedMediaType": 415,
        "Validation": 422,
        "Tokenizer": 422,
        "Overloaded": 429,
        "Backend": 500,
        "Unhealthy": 503,
        "Timeout": 504,
    }
)


@dataclass(frozen=True)
class RefusedItem:
    """One text or image that cannot be used: its position in the request, from 0, and why. Never quotes it."""

    index: int
    reason: str


@dataclass
class RequestError(Exception):
    """A request that is not answered as asked.

    Attributes:
        kind: one of `STATUS`.
        message: what came, what is expected, the next step; quotes no text, header, path or content of a file.
        retry_after: seconds after which it is worth to come again; None where it is not known.
        items: the texts or images at fault.
        headers: to be sent with it.
        param: the field at fault, named as the protocol names it; None where it is not one alone.
    """

    kind: str
    message: str
    retry_after: float | None = None
    items: Sequence[RefusedItem] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    param: str | None = None

    def __str__(self) -> str:
        return self.message

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUS[self.kind]
