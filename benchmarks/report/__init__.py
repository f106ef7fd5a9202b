"""Reports of the serving benchmarks, for people: tables, pictures, and whether each bar is reached."""
