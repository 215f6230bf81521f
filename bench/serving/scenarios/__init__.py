"""The scenarios: each starts a server, loads it in one way, and gives figures beside their goals.

`SCENARIOS` is the table of them.
"""

from bench.serving.scenarios.table import SCENARIOS, Scenario

__all__ = ["SCENARIOS", "Scenario"]
