"""Lower precisions: half, int8, and the search for a recipe that holds its tier."""
