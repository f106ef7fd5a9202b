"""Bundles, and every check that they pass before they are used."""
