"""A proof by simulation that the statistics of the report err as often as they say (docs/adr/0197-proof.md)."""
