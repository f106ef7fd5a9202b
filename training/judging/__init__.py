"""How good a model is: its scores to ranks, its ranks to metrics."""
