"""The meaning of a Content-Type (RFC 9110 section 8.3)."""

from __future__ import annotations

import re
from typing import Final

_JSON: Final = "application/json"
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# Section 5.6.6: blanks may surround the semicolon only, and a parameter may be empty.
_PARAMETER: Final = re.compile(rf'[ \t]*;[ \t]*(?:({_TOKEN})=({_TOKEN}|"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\.)*"))?')


def is_json(content_type: str) -> bool:
    """Return whether a Content-Type means JSON in UTF-8; JSON defines no parameters, so all others are ignored."""
    if content_type == _JSON:
        return True
    kind, semicolon, parameters = content_type.strip(" \t").partition(";")
    if kind.rstrip(" \t").lower() != _JSON:
        return False
    text, at = semicolon + parameters, 0
    while at < len(text):
        parameter = _PARAMETER.match(text, at)
        if parameter is None:
            return False
        name, value = parameter.groups(default="")
        if name.lower() == "charset" and value.strip('"').lower() != "utf-8":
            return False
        at = parameter.end()
    return True
