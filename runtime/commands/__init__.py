"""The commands of `python -m runtime`, one module each: a new command is one more module in `COMMANDS`.

A module says its NAME and its SUMMARY, adds its options to a parser, and runs them. Imports every other wing;
none imports this one.
"""

from __future__ import annotations

import argparse
from typing import Protocol

from runtime.commands import classify, doctor, embed, fill_mask, ground, index, info, search, similarity, tune

__all__ = ["COMMANDS", "Command"]


class Command(Protocol):
    """What a module of this package offers."""

    NAME: str
    SUMMARY: str

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""

    def run(self, options: argparse.Namespace) -> None:
        """Run the command; raises CxrEngineError with what to tell the user."""


COMMANDS: tuple[Command, ...] = (
    embed,
    similarity,
    classify,
    ground,
    fill_mask,
    index,
    search,
    info,
    doctor,
    tune,
)
