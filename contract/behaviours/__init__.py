"""A user's past: the records in Redis, the files that fill it, and the rules for every id, time and number."""
