"""Comparison with RecBole: our models and RecBole's on the same rows."""
