"""Redis servers: sends each command to the right one in time."""
