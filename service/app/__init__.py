"""The composition root: from settings to an application; every part is created once and passed to its users."""
