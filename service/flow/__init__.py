"""How much runs at once: gates, turns, batches, breakers, threads and background tasks."""
