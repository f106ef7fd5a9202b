"""What a bundle is, and every check that it passes before it is used."""
