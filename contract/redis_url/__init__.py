"""Redis addresses: the one parser of Redis URLs, for the service and the sink."""
