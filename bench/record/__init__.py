"""What a run leaves behind, and what follows from it."""
