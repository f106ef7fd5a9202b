"""Runs the inputs of slow rankings again, with the same bundle: `python -m service.replay`."""
