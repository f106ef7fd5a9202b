"""Parts of the OpenAPI document that all operations share: servers, headers, and how open the schemas are."""

from __future__ import annotations

from typing import Any, Final

from contract.events.activity import REQUIRED
from service.http.operation import PROBES

INFO: Final = {
    "description": (
        "Orders candidate items for a user, and takes the behaviours and feedback of users.\n\n"
        "A version never removes or changes a field, a header or an error code of an answer, but it may add some: "
        "clients must ignore fields that they do not know, and must accept new values of `x-extensible-enum`."
    ),
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}
SERVERS: Final = [
    {"url": "http://localhost:8000", "description": "The service on this machine."},
    {"url": "http://localhost:8000/v1", "description": "The same routes under the prefix of the version."},
]
TAGS: Final = [
    {"name": "ranking", "description": "Order candidates for a user."},
    {"name": "behaviours", "description": "Tell the service what users did."},
    {"name": "items", "description": "Describe items."},
    {"name": "operations", "description": "Probes, metrics, and what is being served."},
]

SECURITY_SCHEMES: Final = {
    "api_key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, if the service has an access file (docs/access.md); without one, none is needed.",
    }
}
SECURITY: Final[list[dict[str, list[str]]]] = [{"api_key": []}, {}]

_Header = tuple[str, dict[str, object], object]  # description, schema, example
_TEXT: Final[dict[str, object]] = {"type": "string"}
_COUNT: Final[dict[str, object]] = {"type": "integer", "format": "int32", "minimum": 0, "maximum": 999_999_999}
_REQUEST_ID: Final[_Header] = ("", _TEXT, "c78ec076eb4ae4d1c9e6baf4d9ddfd40")
_TRACE: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

_ASKED: Final[dict[str, _Header]] = {
    "X-Request-Id": ("Repeated in the answer and in the log; made if it is absent or not valid.", *_REQUEST_ID[1:]),
    "traceparent": ("W3C trace context; repeated in the answer and in the log.", _TEXT, _TRACE),
}
_DEADLINE: Final[dict[str, _Header]] = {
    "X-Deadline-Ms": ("How long (ms) the caller waits for the answer.", _COUNT, 200)
}
_OVERRIDE: Final[dict[str, _Header]] = {
    "X-AB-Override": ("A tester's signed request for an arm; ignored if it is not valid.", _TEXT, None)
}
_ASKED_OF: Final[dict[str, dict[str, _Header]]] = {
    "/rank": _DEADLINE | _OVERRIDE,
    "/rank/batch": _DEADLINE | _OVERRIDE,
    "/feedback": _DEADLINE,
}

_ANSWERED: Final[dict[str, _Header]] = {
    "X-Request-Id": ("The request's id.", *_REQUEST_ID[1:]),
    "X-AB-Bucket": (
        "RFC 9651 dictionary: what every layer of the experiments decided, and why.",
        _TEXT,
        "rank=pyramid-vs-mgnm:treatment;b=9292;r=split",
    ),
    "X-AB-Config": ("Digest of the experiment file in force.", _TEXT, '"1f0c9d3a5b7e2468"'),
    "X-Content-Type-Options": ("The body is what Content-Type names.", _TEXT, "nosniff"),
    "traceparent": ("As sent.", _TEXT, _TRACE),
}
_RANKED: Final[dict[str, _Header]] = {
    "X-Model": ("The bundle that answered, as model@version.", _TEXT, "mgnm@7"),
    "Server-Timing": ("W3C: the stages of the ranking, in milliseconds.", _TEXT, "store;dur=0.884, total;dur=1.804"),
}
_QUOTAS: Final[dict[str, _Header]] = {
    "RateLimit-Policy": (
        "The quota of the caller, if it has one (IETF draft RateLimit header fields).",
        _TEXT,
        '"requests";q=1000;w=2',
    ),
    "RateLimit": ("The rest of the quota.", _TEXT, '"requests";r=998;t=1'),
}
_PRIVATE: Final[dict[str, _Header]] = {
    "Cache-Control": ("Answers about users are not cached.", _TEXT, "private, no-store")
}
_PERSONAL: Final = ("/rank", "/rank/batch")
_ANSWERED_WITH: Final[dict[str, dict[str, _Header]]] = {
    "401": {"WWW-Authenticate": ("How to authenticate.", _TEXT, 'Bearer realm="ranker"')},
    "403": {
        "WWW-Authenticate": (
            "The scope that the key lacks.",
            _TEXT,
            'Bearer realm="ranker", error="insufficient_scope", scope="write"',
        )
    },
    "415": {"Accept-Encoding": ("Content codings of requests; after a wrong Content-Encoding.", _TEXT, "gzip")},
    "429": {"Retry-After": ("Seconds after which to try again.", _COUNT, 1)},
    "503": {"Retry-After": ("Seconds after which to try again.", _COUNT, 1)},
}


def add_security(operation: dict[str, Any]) -> None:  # Any: JSON
    """Tell clients of an operation to send a key if they have one."""
    if operation["operationId"] not in PROBES:
        operation["security"] = SECURITY


def add_headers(operation: dict[str, Any], path: str) -> None:  # Any: JSON
    """Describe the headers that an operation reads, and those of each of its answers."""
    asked = _ASKED | _ASKED_OF.get(path, {})
    operation["parameters"] = operation.get("parameters", []) + [
        {"name": name, "in": "header", "required": False, **_described(header)} for name, header in asked.items()
    ]
    for status, response in operation["responses"].items():
        given = _ANSWERED | _ANSWERED_WITH.get(status, {})
        given |= {} if operation["operationId"] in PROBES else _QUOTAS
        given |= _PRIVATE if path in _PERSONAL else {}
        given |= _RANKED if path == "/rank" and status == "200" else {}
        response["headers"] = {name: _described(header) for name, header in given.items()}


def requirements() -> dict[str, Any]:  # Any: JSON
    """Return the fields that each type of activity requires: one condition in the other, since generators skip those.

    A list of them (`allOf`) would be taken for models to be merged.
    """
    rule: dict[str, Any] = {}
    for needed in sorted(set(REQUIRED.values())):
        types = [name for name, fields in REQUIRED.items() if fields == needed]
        one_of = [{"required": [field]} for fields in needed if len(fields) > 1 for field in fields]
        then: dict[str, Any] = {"required": [fields[0] for fields in needed if len(fields) == 1]}
        then |= {"anyOf": one_of} if one_of else {}
        rule = {"if": {"properties": {"type": {"enum": types}}}, "then": then, **({"else": rule} if rule else {})}
    return rule


def opened(schema: Any) -> Any:  # Any: JSON
    """Return the schema of an answer so that a client built from it accepts the answers of later versions.

    Objects may have further fields, and closed sets of names become texts with the names known today.
    """
    if isinstance(schema, list):
        return [opened(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: opened(part) for name, part in schema.items() if (name, part) != ("additionalProperties", False)}
    if "const" in found:
        found["enum"] = [found.pop("const")]
    if "enum" in found:
        found |= {"type": "string", "x-extensible-enum": found.pop("enum")}
    return found


def sized(schema: Any) -> Any:  # Any: JSON
    """Return a schema whose numbers have sizes: without them, some generators take 32 bits for times.

    An integer beside a number in one choice is dropped: it would give clients two types for one value.
    """
    if isinstance(schema, list):
        return [sized(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: sized(part) for name, part in schema.items()}
    choices = found.get("anyOf")
    if isinstance(choices, list) and any(choice.get("type") == "number" for choice in choices):
        found["anyOf"] = [choice for choice in choices if choice.get("type") != "integer"]
    if found.get("type") == "integer":
        found.setdefault("format", "int64")
    if found.get("type") == "number":
        found.setdefault("format", "double")
    return found


def _described(header: _Header) -> dict[str, Any]:  # Any: JSON
    description, schema, example = header
    return {"description": description, "schema": schema} | ({} if example is None else {"example": example})
