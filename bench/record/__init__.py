"""What a run leaves behind, and what follows from it: gates, statistics, headlines, changes between two runs.

Imports `errors`.
"""

from bench.record.contestant import CPU, GPU, Contestant
from bench.record.reading import read_report
from bench.record.report import (
    FAILED,
    MEASURED,
    MET,
    MISSED,
    NOT_RUN,
    OUT_OF_TIME,
    SKIPPED,
    WRONG,
    Case,
    Fidelity,
    Goal,
    LoadGenRun,
    Manner,
    Rate,
    Report,
    Row,
    write_json,
)

__all__ = [
    "CPU",
    "FAILED",
    "GPU",
    "MEASURED",
    "MET",
    "MISSED",
    "NOT_RUN",
    "OUT_OF_TIME",
    "SKIPPED",
    "WRONG",
    "Case",
    "Contestant",
    "Fidelity",
    "Goal",
    "LoadGenRun",
    "Manner",
    "Rate",
    "Report",
    "Row",
    "read_report",
    "write_json",
]
