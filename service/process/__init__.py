"""The process: its port, its signals, its successor and its end."""
