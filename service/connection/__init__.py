"""One TCP connection: its limits, the order of its answers, and whether its caller is still there."""
