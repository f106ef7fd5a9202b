"""From raw interactions to a run directory: data, splits, loaders, the one training loop, evaluation."""
