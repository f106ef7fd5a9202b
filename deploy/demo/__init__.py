"""`make demo`: from nothing to a ranked answer."""
