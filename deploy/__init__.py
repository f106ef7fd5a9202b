"""Scripts and configuration that bring the parts up together; nothing here is imported by a room."""
