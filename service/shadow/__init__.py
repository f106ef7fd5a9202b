"""Shadows: bundles that score a sample of the rankings after they were answered, each in a process of its own."""
