"""The commands of `python -m runtime`, one module each: a new command is one more module in `COMMANDS`.

A module says its NAME and its SUMMARY, adds its options to a parser, and runs them. Imports every other wing;
none imports this one.
"""

from __future__ import annotations

from runtime.commands import (
    classify,
    doctor,
    embed,
    fill_mask,
    ground,
    index,
    info,
    progression,
    search,
    serve,
    similarity,
    tune,
)
from runtime.commands.command_line import Command

__all__ = ["COMMANDS", "Command"]

COMMANDS: tuple[Command, ...] = (
    embed,
    similarity,
    classify,
    progression,
    ground,
    fill_mask,
    index,
    search,
    serve,
    info,
    doctor,
    tune,
)
