"""The commands of `python -m analysis`, one module each; heavy libraries are imported when a command runs."""
