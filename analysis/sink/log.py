"""Log lines of the sink: one JSON object a line on standard output, like those of the service."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Literal


def log(event: str, level: Literal["info", "warning", "error"] = "info", **fields: object) -> None:
    """Write one line; texts are cut, so that a caller's event cannot make a line long."""
    cut = {name: value[:500] if isinstance(value, str) else value for name, value in fields.items()}
    line = {"event": event, "level": level, "timestamp": datetime.now(UTC).isoformat(), **cut}
    sys.stdout.write(json.dumps(line, default=str) + "\n")
    sys.stdout.flush()
