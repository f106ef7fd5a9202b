"""Limits on concurrent work: gates, turns, batches, breakers, threads and background tasks."""
