"""Bytes to values and back: routes, bodies of requests and answers, codec, and the headers that every answer has."""
