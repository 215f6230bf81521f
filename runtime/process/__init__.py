"""What belongs to the whole process: streams, signals, threads, forks, its cache folder, arguments, and what it sends.

Imports `runtime.errors` alone.
"""

from runtime.process.checks import array_of, flag, items_of, shown
from runtime.process.console import print_json, print_note, print_result, report_written
from runtime.process.privacy import import_private

__all__ = [
    "array_of",
    "flag",
    "import_private",
    "items_of",
    "print_json",
    "print_note",
    "print_result",
    "report_written",
    "shown",
]
