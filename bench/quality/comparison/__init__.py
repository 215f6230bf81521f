"""Several systems' results of one task side by side, and beside them what was published. Imports nothing of `bench`."""
