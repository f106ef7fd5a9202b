"""Which of two interleaved models users prefer: credit per user, from the ranking log and activity."""
