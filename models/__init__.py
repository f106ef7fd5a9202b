"""Networks. They use only torch and the contract, and read and write only checkpoints."""
