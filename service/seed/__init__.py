"""Loads a behaviours file into a running service, through its HTTP API."""
