"""How fast the service is: closed and open loops, sweeps, profiles, and two checkouts side by side."""
