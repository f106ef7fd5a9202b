"""What two rooms must agree on; numpy and pydantic only. Import from its modules."""
