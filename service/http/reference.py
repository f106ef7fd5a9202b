"""The page at /docs: the OpenAPI document as one HTML document, with no script and nothing from any other host."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any, Final

import orjson

_STYLE: Final = Path(__file__).with_name("reference.css").read_text(encoding="utf-8")
_DIGEST: Final = base64.b64encode(sha256(_STYLE.encode()).digest()).decode()

HEADERS: Final = {
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}

_CODE: Final = re.compile(r"`([^`]+)`")
_BOUNDS: Final = {
    "minLength": "at least {} characters", "maxLength": "at most {} characters", "minItems": "at least {}",
    "maxItems": "at most {}", "maxProperties": "at most {}", "minimum": "from {}", "exclusiveMinimum": "above {}",
    "maximum": "to {}", "exclusiveMaximum": "below {}", "default": "default {}",
}  # fmt: skip

Json = Mapping[str, Any]  # Any: JSON


def page(document: Json) -> bytes:
    """Return the page of an OpenAPI document."""
    info = document["info"]
    title = f"{info['title']} {info['version']}"
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>',
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style>',
        f"<header><h1>{escape(title)}</h1><p>{_text(info.get('summary', ''))}</p>",
        '<p><a href="openapi.json">The OpenAPI document</a> of these routes, for generators of clients.</p>',
        f"<nav>{''.join(_links(document))}</nav></header><main>",
        *(_operation(path, method, one) for path, method, one in _operations(document)),
        "<h2>Types</h2>",
        *(_type(name, schema) for name, schema in document["components"]["schemas"].items()),
        "</main></html>",
    ]
    return "\n".join(parts).encode()


def _operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


def _links(document: Json) -> Iterator[str]:
    for path, method, operation in _operations(document):
        yield f'<a href="#{_name(operation)}">{_method(method)} {escape(path)}</a>'


def _name(operation: Json) -> str:
    return escape(operation["operationId"])


def _method(method: str) -> str:
    return f'<b class="{escape(method)}">{escape(method.upper())}</b>'


def _text(text: str) -> str:
    """Return prose as HTML: words between backticks are code, an empty line ends a paragraph."""
    return _CODE.sub(r"<code>\1</code>", escape(text)).replace("\n\n", "<br>")


def _operation(path: str, method: str, operation: Json) -> str:
    body = operation.get("requestBody", {}).get("content", {})
    given = [_row(*_parameter(one)) for one in operation.get("parameters", ())]
    answers = [_row(status, *_answer(one)) for status, one in operation["responses"].items()]
    return "".join((
        f'<article id="{_name(operation)}"><h2>{_method(method)} {escape(path)}</h2>',
        f"<p>{_text(operation.get('description', operation.get('summary', '')))}</p>",
        *(f"<h3>Body</h3><p>{_kind(one['schema'])}, as {media}</p>{_examples(one)}" for media, one in body.items()),
        _table("Parameters", ("Name", "In", "Means"), given),
        _table("Answers", ("Status", "Body", "Means"), answers),
        "</article>",
    ))  # fmt: skip


def _parameter(one: Json) -> tuple[str, str, str]:
    is_required = ", required" if one.get("required") else ""
    return f"<code>{escape(one['name'])}</code>", one["in"] + is_required, _text(one.get("description", ""))


def _answer(one: Json) -> tuple[str, str]:
    content = one.get("content", {})
    bodies = ", ".join(_kind(body.get("schema", {})) or escape(media) for media, body in content.items())
    headers = ", ".join(f"<code>{escape(name)}</code>" for name in one.get("headers", {}))
    means = _text(one.get("description", "")) + (f"<br><small>{headers}</small>" if headers else "")
    return bodies, means + "".join(_examples(body) for body in content.values())


def _examples(content: Json) -> str:
    """Return the examples of a body, folded up."""
    found = [(one.get("summary", "Example"), one.get("value")) for one in content.get("examples", {}).values()]
    if "example" in content:
        found.append(("Example", content["example"]))
    return "".join(
        f"<details><summary>{escape(summary)}</summary><pre>{escape(_json(value))}</pre></details>"
        for summary, value in found
    )


def _json(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _type(name: str, schema: Json) -> str:
    required = schema.get("required", ())
    rows = [
        _row(
            f"<code>{escape(field)}</code>" + ("" if field in required else " <small>optional</small>"),
            _kind(one),
            "; ".join(part for part in (_text(one.get("description", "")), _bounds(one)) if part),
        )
        for field, one in schema.get("properties", {}).items()
    ]
    head = f'<article id="type-{escape(name)}"><h3>{escape(name)}</h3><p>{_text(schema.get("description", ""))}</p>'
    return head + _table("", ("Field", "Type", "Means"), rows) + "</article>"


def _kind(schema: Json) -> str:
    """Return a schema's type as HTML; a named one is a link to it."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#type-{name}">{name}</a>'
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return " or ".join(dict.fromkeys(_kind(one) for one in schema[choice]))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " or ".join(f"<code>{escape(_json(value))}</code>" for value in values)
    kind = escape(str(schema.get("type", "")))
    if kind == "array":
        return f"array of {_kind(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_kind(schema['additionalProperties'])}"
    return kind


def _bounds(schema: Json) -> str:
    said = [text.format(_json(schema[name])) for name, text in _BOUNDS.items() if name in schema]
    return escape(", ".join(said))


def _row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _table(title: str, names: tuple[str, ...], rows: list[str]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{name}</th>" for name in names)
    heading = f"<h3>{title}</h3>" if title else ""
    return f"{heading}<div><table><tr>{head}</tr>{''.join(rows)}</table></div>"
