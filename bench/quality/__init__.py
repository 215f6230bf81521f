"""The papers' tasks with the papers' metrics: `python -m bench quality WHAT …`, one module each.

A module says its NAME and its SUMMARY, adds its options to a parser, and runs them.
"""

from __future__ import annotations

import argparse
from typing import Protocol

__all__ = ["QUALITY", "Quality"]


class Quality(Protocol):
    """What a module of this package offers."""

    NAME: str
    SUMMARY: str

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""

    def run(self, options: argparse.Namespace) -> None:
        """Run the command; raises CxrEngineError with what to tell the user."""


QUALITY: tuple[Quality, ...] = ()
