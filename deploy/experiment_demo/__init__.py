"""`make experiment-demo`: simulated users, the real service, and the report of two experiments."""
