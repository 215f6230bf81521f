"""Micro-benchmarks of the parts that are this project's own, each beside the plain way to the same result.

    python -m pytest bench/micro --benchmark-only --benchmark-group-by=group

Every one asserts the result first. No bundle is needed and no model runs; `make test` leaves them out.
Imports `workloads` and the two other packages.
"""
