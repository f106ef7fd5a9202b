"""The systems that the two main models are compared with; one paper, one file."""
