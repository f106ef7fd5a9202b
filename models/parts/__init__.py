"""Parts that several models are built from: layers, item vectors, heads and losses."""
