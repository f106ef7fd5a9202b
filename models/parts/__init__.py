"""What several models are built from: layers, item vectors, heads and losses."""
