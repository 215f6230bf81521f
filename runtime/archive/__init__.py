"""Embedding an archive: items, chunks, parts on disk, rejects, and going on where a run ended.

Imports `engine` and what lies below it.
"""

from runtime.archive.items import Stream, collect_items, find_items
from runtime.archive.output import check_output

__all__ = ["Stream", "check_output", "collect_items", "find_items"]
