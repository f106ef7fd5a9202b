"""Redis servers: how a command reaches the right one in time."""
