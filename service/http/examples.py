"""Whole requests of every operation, each with the answer to it: for the OpenAPI document.

`tests/e2e/test_public_api.py` sends every request to a real service and compares the answer with the one here.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from service.errors import RankerError

JSON: Final = "application/json"
_ID: Final = "c78ec076eb4ae4d1c9e6baf4d9ddfd40"
_PLAYED: Final = {"item_id": "100", "ts": 1_700_000_000_000, "action": "play", "play_ms": 90_000}


class Example(NamedTuple):
    """A request and the answer to it; Any: JSON."""

    summary: str
    response: Any
    request: Any = None


def error_example(kind: type[RankerError]) -> dict[str, Any]:  # Any: JSON
    """Return an answer with an error."""
    error = {"code": kind.code, "message": kind.default_message, "request_id": _ID}
    return {"summary": kind.default_message, "value": {"error": error}}


_RANKED: Final = {
    "request_id": _ID,
    "model": "mgnm",
    "version": "7",
    "degraded": [],
    "parameters": {"model": "mgnm", "version": "7"},
    "items": [
        {"item_id": "181", "score": 1.5637538433074951},
        {"item_id": "50", "score": 1.2001680135726929},
        {"item_id": "no-such-film", "score": None, "known": False},
    ],
}

_EXPLANATION: Final = {
    "read": 0, "recent": 1, "corrupt": 0, "used": 1, "truncated": 0, "unread_behaviours": 0, "unknown_behaviours": 0,
    "unknown_candidates": 1, "state_cached": False, "user": {}, "items": {"level": [2, 1]},
    "context": {},
}  # fmt: skip

_RANK: Final = {
    "few_fields": Example(
        "A user and the candidates", _RANKED, {"user_id": "42", "candidates": ["50", "181", "no-such-film"]}
    ),
    "all_fields": Example(
        "With every field",
        _RANKED
        | {"items": _RANKED["items"][:2], "explanation": _EXPLANATION, "ignored_context": ["device", "tz_offset"]},  # type: ignore[index]
        {
            "user_id": "43",
            "candidates": ["50", "181", "no-such-film"],
            "limit": 2,
            "recent": [_PLAYED],
            "attributes": {"country": "NL", "is_subscriber": True},
            "features": {"no-such-film": {"genres": ["drama", "war"], "year": 1998}},
            "context": {"device": "ios", "tz_offset": 60},
            "request_time": 1_700_000_060_000,
            "explain": True,
            "seen": "keep",
        },
    ),
}

_BATCH: Final = {
    "lists_of_a_mail": Example(
        "Lists for a mail that may not be opened",
        {
            "request_id": _ID,
            "results": [
                {
                    "status": 200, "bucket": "rank=pyramid-vs-mgnm:treatment;b=9292;r=split",
                    "config": "1f0c9d3a5b7e2468", "ranking": _RANKED,
                },
                {
                    "status": 200, "bucket": "rank=pyramid-vs-mgnm:control;b=626;r=split",
                    "config": "1f0c9d3a5b7e2468", "ranking": _RANKED,
                },
            ],
        },
        {
            "shown": False,
            "rankings": [
                {"user_id": "42", "candidates": ["50", "181", "no-such-film"]},
                {"user_id": "43", "candidates": ["181", "50", "no-such-film"]},
            ],
        },
    )
}  # fmt: skip

_BEHAVIOURS: Final = {
    "one_behaviour": Example(
        "A play of a film",
        {"stored": 1, "repeated": 0, "refused": 0, "refusals": []},
        {"behaviours": [{"user_id": "44", **_PLAYED}]},
    ),
    "one_refused": Example(
        "Two behaviours, one of them from the future",
        {"stored": 1, "repeated": 0, "refused": 1, "refusals": [{"index": 1, "reason": "future"}]},
        {
            "behaviours": [
                {"user_id": "45", "item_id": "50", "ts": 1_700_000_000_000, "action": "rate", "value": 4.5},
                {"user_id": "45", "item_id": "50", "ts": 253_402_300_799_999},
            ]
        },
    ),
}

_STORED: Final = {
    "stored": Example(
        "Stored behaviours of a user",
        {
            "user_id": "42",
            "status": "ok",
            "corrupt": 0,
            "truncated": False,
            "behaviours": [
                {
                    "item_key": "d1bd8a6b6d6bd4f5", "item_id": "100", "ts": 1_700_000_000_000, "action": "play",
                    "play_ms": 90_000, "value": 0.0,
                }
            ],
        },
    )
}  # fmt: skip

_ITEMS: Final = {
    "one_item": Example(
        "Features of an article",
        {"stored": 1, "refused": 0, "refusals": []},
        {"items": [{"item_id": "a9001", "features": {"category": "sport", "tags": ["cup", "final"], "words": 480}}]},
    ),
}

_FEEDBACK: Final = {
    "one_view": Example(
        "A view of a film",
        {"accepted": 3, "stored": None, "dropped": 0, "refused": 0, "clamped": 0, "refusals": []},
        {
            "feedback": [
                {
                    "user_id": "42", "type": "foreground", "event_id": "7f-1", "device_id": "phone-1",
                    "tz_offset": 480,
                },
                {
                    "user_id": "42", "type": "play_start", "event_id": "7f-2", "item_id": "50", "view_id": "v9",
                    "request_id": _ID,
                },
                {
                    "user_id": "42", "type": "play_end", "event_id": "7f-3", "item_id": "50", "view_id": "v9",
                    "play_ms": 9_000, "duration_ms": 12_000,
                },
            ]
        },
    ),
}  # fmt: skip

_INFO: Final = {
    "info": Example(
        "A service with one bundle",
        {
            "service": "ranker",
            "version": "2026.11.0",
            "contract_version": 5,
            "bundles": [
                {
                    "name": "mgnm@7", "model": "mgnm", "version": "7", "digest": "sha256:1d0e...", "provider": "cpu",
                    "is_healthy": True, "items": 1_682, "length": 50,
                }
            ],
            "experiments": {"digest": "1f0c9d3a5b7e2468", "revision": "pyramid-vs-mgnm.1", "tracks": {}},
            "limits": {"max_candidates": 2_000, "max_behaviours": 1_000, "deadline_ms": 250},
            "workers": [
                {
                    "worker": 0, "process_id": 17, "restarts": 0, "status": "ready",
                    "experiments": "1f0c9d3a5b7e2468",
                }
            ],
        },
    )
}  # fmt: skip


def _health(status: str) -> dict[str, Example]:
    return {status: Example(f"The service is {status}", {"status": status})}


EXAMPLES: Final[dict[str, dict[str, Example]]] = {
    "rank": _RANK,
    "rank_batch": _BATCH,
    "append_behaviours": _BEHAVIOURS,
    "get_behaviours": _STORED,
    "store_items": _ITEMS,
    "send_feedback": _FEEDBACK,
    "get_info": _INFO,
    "get_liveness": _health("alive"),
    "get_readiness": _health("ready"),
}
"""By operation id, then by a name that the request and its answer share."""


def add_examples(operation: dict[str, Any]) -> None:  # Any: JSON
    """Add the examples of an operation to its request and to its usual answer; FastAPI would drop their nulls."""
    examples = EXAMPLES.get(operation["operationId"], {})
    bodies = {"response": operation["responses"]["202" if "202" in operation["responses"] else "200"]}
    if "requestBody" in operation:
        bodies["request"] = operation["requestBody"]
    for part, body in bodies.items() if examples else ():
        body["content"][JSON]["examples"] = {
            name: {"summary": example.summary, "value": getattr(example, part)} for name, example in examples.items()
        }
