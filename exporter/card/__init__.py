"""The model card: what to know before a bundle is promoted, and what changed since the one before."""
