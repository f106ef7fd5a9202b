"""The recorded cases: what was sent, and what was answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

ANSWERS: Final = Path(__file__).with_name("answers")


def recorded(group: str) -> dict[str, dict[str, Any]]:
    """Return the lines of a file of answers, by the name of the case."""
    lines = (ANSWERS / f"{group}.jsonl").read_text(encoding="ascii").splitlines()
    return {line["name"]: line for line in map(json.loads, lines)}


def body_of(line: dict[str, Any]) -> bytes:
    """Return the body of the first request of a recorded case."""
    pieces = [piece if isinstance(piece, str) else piece[0] * piece[1] for piece in line["send"]]
    return "".join(pieces).encode("latin-1").partition(b"\r\n\r\n")[2]
