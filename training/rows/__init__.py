"""Prepared data to the rows that a model learns from and is judged on: the split, the negatives, the batches."""
