"""Processes that are measured from outside, and the machine they run on.

Imports `errors`.
"""

from bench.processes.child import Child
from bench.processes.measure import run_process

__all__ = ["Child", "run_process"]
