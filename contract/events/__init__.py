"""Events that the service writes and the analysis reads: exposures, activity and the ranking log."""
