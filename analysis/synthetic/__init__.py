"""Simulated users with a planted effect, for tests, proofs and measurements."""
