"""What is kept in Redis: behaviours and events."""
