"""A run directory of training, read and judged."""
