"""Finding: indexes of embeddings, nearest neighbours, and pages of results.

Imports `archive` and what lies below it. Nothing is handed on here: faiss and Pillow come with the first use.
"""
