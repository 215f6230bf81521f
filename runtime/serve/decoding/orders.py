"""What the server tells its fork server, and how."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Protocol

from runtime.serve.decoding.answers import Answer

__all__ = ["COMMAND", "DECODE", "KILL", "LENGTH", "READY", "REQUEST", "Orders", "Working"]

# What the server sends: an order, and the number of the picture; with DECODE comes the child's socket.
COMMAND = struct.Struct("<cQ")
DECODE, KILL = b"D", b"K"
# Before the orders; and what a child is sent: what is asked for, and the length of the file.
LENGTH, REQUEST = struct.Struct("<Q"), struct.Struct("<cQ")
READY = b"R"


class Working(Protocol):
    """What children do; a `runtime.serve.decoding.work.Work`."""

    def __call__(self, kind: bytes, image: bytes) -> Answer:
        """Decode a picture."""

    def warm(self) -> None:
        """Import what that takes."""

    def touch(self) -> None:
        """Go through what is imported."""


@dataclass(frozen=True)
class Orders:
    """What a fork server is started with.

    Attributes:
        work: what children do.
        seconds: that a child may take, of the clock and of the processor.
        memory: bytes that a child may take beyond what the fork server has.
    """

    work: Working
    seconds: float
    memory: int
