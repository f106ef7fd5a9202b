"""One batch from request to answer."""
