"""Measurements: tables of all systems, a comparison with RecBole, speed. No test depends on them."""
