"""The service beside other servers of the same model: `make bench-peers`."""
