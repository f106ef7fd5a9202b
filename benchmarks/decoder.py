"""CPU time of decoding a ranking's body, fast and friendly: `python -m benchmarks.decoder`.

Rounds are interleaved; a line shows the median CPU time of one body.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from service.http.codec import parse_rank
from service.http.rank_decoder import decode_rank
from service.settings.limits import LimitsSettings

_ROUNDS: Final = 11
_LIMITS: Final = LimitsSettings()
_DECODERS: Final[dict[str, Callable[[bytes], object]]] = {
    "validator": lambda body: parse_rank(body, _LIMITS),
    "fast": lambda body: decode_rank(body, _LIMITS),
}


def main() -> int:
    """Print a line for each kind of body."""
    for name, body in _bodies().items():
        times: dict[str, list[float]] = {decoder: [] for decoder in _DECODERS}
        for _ in range(_ROUNDS):
            for decoder, decode in _DECODERS.items():
                times[decoder].append(_microseconds(decode, body))
        medians = ", ".join(f"{decoder} {statistics.median(own):.1f} us" for decoder, own in times.items())
        sys.stdout.write(f"{name} ({len(body)} bytes): {medians}\n")
    return 0


def _bodies() -> dict[str, bytes]:
    recent = [{"item_id": str(place), "ts": 1_700_000_000_000 + place, "action": "play"} for place in range(50)]
    return {
        "50 candidates": _body(50),
        "200 candidates": _body(200),
        "200 candidates, blanks after commas": _body(200, separators=(", ", ": ")),
        "200 candidates that are not ASCII": _body(200, prefix="é"),
        "200 candidates and 50 recent behaviours": _body(200, recent=recent),
        "2,000 candidates": _body(2_000),
    }


def _body(count: int, *, separators: tuple[str, str] = (",", ":"), prefix: str = "", **fields: Any) -> bytes:
    chance = random.Random(count)
    candidates = [f"{prefix}{chance.randrange(2_000_000)}" for _ in range(count)]
    document = {"user_id": "12345", "candidates": candidates, **fields}
    return json.dumps(document, separators=separators, ensure_ascii=False).encode()


def _microseconds(decode: Callable[[bytes], object], body: bytes) -> float:
    count = 1_000_000 // len(body)
    started = time.process_time()
    for _ in range(count):
        decode(body)
    return (time.process_time() - started) / count * 1e6


if __name__ == "__main__":
    sys.exit(main())
