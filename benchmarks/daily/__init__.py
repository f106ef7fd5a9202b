"""A week of daily trainings, replayed: warm starts beside training from scratch, in quality and processor time."""
