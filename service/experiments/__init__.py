"""Who is served what, and what is recorded about it."""
