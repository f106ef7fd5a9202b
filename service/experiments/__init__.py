"""The assignment of users to models, and the records of it."""
