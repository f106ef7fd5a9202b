"""A bundle on disk: its golden rows, its manifest, its files."""
