"""Batch scoring: the best items of every user, from the bundle that the service serves (docs/batch-scoring.md)."""
