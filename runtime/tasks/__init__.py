"""What embeddings are for: zero-shot classification, phrase grounding, similarity maps, and how well they do.

Imports `process`, `files`, `text` and `image`. Nothing is handed on here: each task is imported with its first use.
"""
