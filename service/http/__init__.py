"""Bytes to values and back: routes, schemas, codec, and the headers that every answer has."""
