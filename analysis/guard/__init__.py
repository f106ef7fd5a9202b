"""The guard: stops an experiment whose treatment does harm, and does nothing else."""
