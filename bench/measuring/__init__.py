"""Contestants run in turn, each in a process of its own.

Imports `record`, `processes` and `peers`.
"""

from bench.measuring.entry import Entry
from bench.measuring.plan import Plan

__all__ = ["Entry", "Plan"]
