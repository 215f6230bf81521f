"""Finding: indexes of embeddings, nearest neighbours, and pages of results."""
