"""Embedding an archive: items, chunks, parts on disk, and resuming."""
