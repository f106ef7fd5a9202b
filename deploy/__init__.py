"""Scripts and configuration that bring the parts up together; no package imports them."""
