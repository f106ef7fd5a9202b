"""Data in Redis: behaviours and events."""
