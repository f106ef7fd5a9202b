"""Formats and rules that several packages share; numpy and pydantic only. Import from its modules."""
