"""`python -m bench gpu-check`: is what runs on the GPU right, and as fast as it is meant to be.

Imports `record`, `peers`, `measuring`, `workloads`, `pages` and `session`.
"""

from bench.gpu.command import NAME, SUMMARY, add_options, run

__all__ = ["NAME", "SUMMARY", "add_options", "run"]
