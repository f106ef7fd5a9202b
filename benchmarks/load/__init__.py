"""Speed of the service: closed and open loops, sweeps, profiles, and two checkouts side by side."""
