"""The engine: bundles loaded, run in batches, watched, and replaced."""
