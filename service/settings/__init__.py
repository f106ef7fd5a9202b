"""Every setting of the service: one file per section, and the only reader of the environment."""
