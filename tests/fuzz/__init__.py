"""Coverage-guided fuzzing of everything that reads bytes from others: `make fuzz` (docs/reliability.md)."""
