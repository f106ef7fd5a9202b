"""Items born after training: scored from features, placed by the prior, or at random."""
