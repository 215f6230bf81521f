"""What the embeddings are for: zero-shot classification, grounding, and how well they do."""
