"""Networks; torch and the contract only; no files except checkpoints."""
