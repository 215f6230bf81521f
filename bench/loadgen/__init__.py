"""MLPerf LoadGen as the driver: SingleStream, MultiStream, Offline and Server, performance and accuracy.

The system under test is what users have: `runtime.load(…)` and its `encode`.

Imports `record`, `peers` and `workloads`.
"""

from __future__ import annotations

from bench.loadgen.command import NAME, SUMMARY, add_options, run
from bench.loadgen.processes import run_loadgen, short_runs
from bench.loadgen.scenarios import SCENARIOS
from bench.loadgen.systems import SYSTEMS

__all__ = ["NAME", "SCENARIOS", "SUMMARY", "SYSTEMS", "add_options", "run", "run_loadgen", "short_runs"]
