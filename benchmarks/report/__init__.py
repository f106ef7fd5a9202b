"""What the benchmarks of serving found, for people: tables, pictures, and whether each bar is reached."""
