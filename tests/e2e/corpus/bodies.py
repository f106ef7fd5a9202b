"""Rankings that are refused for their body or its type."""

from __future__ import annotations

from collections.abc import Iterator

from tests.e2e.corpus.case import JSON, Case, Piece, body, chunked, gzipped, post, raw
from tests.e2e.corpus.rig import START_MS

T0 = str(START_MS)


def _deep(levels: int, middle: str = "") -> tuple[Piece, ...]:
    return ("[", levels), middle, ("]", levels)


def cases() -> Iterator[Case]:
    """Return all cases of this file."""
    for name, text in _NOT_JSON.items():
        yield Case(name, post(text))
    for name, pieces in _LARGE.items():
        yield Case(name, post(*pieces))
    for field, values in _VALUES.items():
        for name, value in values.items():
            yield Case(f"{field}: {name}", post(body(**{field: value})))
    for field, values in _RECENT.items():
        for name, value in values.items():
            parts = {"item_id": '"i9"', "ts": T0} | {field: value}
            one = "{" + ",".join(f'"{key}":{text}' for key, text in parts.items()) + "}"
            yield Case(f"recent.{field}: {name}", post(body(recent=f'[{{"item_id":"i1","ts":{T0}}},{one}]')))
    for name, text in _SEVERAL.items():
        yield Case(f"several faults: {name}", post(text))
    for content_type in _CONTENT_TYPES:
        header = "" if content_type is None else f"content-type: {content_type}\r\n"
        yield Case(f"Content-Type {content_type!a}", post(body(), headers=header))
    for encoding in ("gzip", "identity", "Identity ", "deflate", "br", "gzip, gzip", ""):
        yield Case(f"Content-Encoding {encoding!r}", post(body(), headers=f"{JSON}content-encoding: {encoding}\r\n"))
    for name, content in (("", gzipped(body())), (", broken", gzipped(body())[:-1]), (", two", 2 * gzipped(body()))):
        headers = f"{JSON}content-encoding: gzip\r\n"
        yield Case(f"Content-Encoding gzip{name}", post(content, headers=headers))
        yield Case(f"Content-Encoding gzip{name}, in chunks", chunked(content, headers=headers))
    yield Case("Content-Type twice", post(body(), headers=f"{JSON}content-type: text/plain\r\n"))
    yield Case("Content-Type twice, the first wrong", post(body(), headers=f"content-type: text/plain\r\n{JSON}"))
    yield Case("Content-Type wrong and a bad body", post("x", headers="content-type: text/plain\r\n"))
    yield Case(
        "Content-Type and Content-Encoding wrong", post("x", headers="content-encoding: br\r\ncontent-type: a\r\n")
    )


_TEXTS = {
    "a number": "7", "true": "true", "null": "null", "an array": '["u1"]', "an object": '{"id":"u1"}', "empty": '""',
    "a blank": '" "', "129 bytes": f'"{"u" * 129}"', "128 characters, 256 bytes": f'"{"é" * 128}"', "escaped NUL": '"a\\u0000b"',
    "CR LF": '"a\\r\\nb"', "a tab": '"a\\tb"', "an escape character": '"a\\u001b[31m"', "DEL": '"a\\u007f"', "raw DEL": '"a\x7f"',
    "U+0085": '"a\\u0085b"', "raw U+0085": '"a\x85b"', "U+009F at the end": '"a\\u009f"', "a blank before": '" u1"', "a blank after": '"u1 "',
    "no-break space after": '"u1\\u00a0"', "ideographic space before": '"\\u3000u1"', "U+2028 at the end": '"u1\\u2028"',
    "lone high surrogate": '"\\ud800"', "lone low surrogate": '"a\\udc00"', "surrogates the wrong way round": '"\\udc00\\ud800"',
    "high surrogate, then text": '"\\ud800abc"', "half an escape": '"\\u00"', "an unknown escape": '"\\x41"',
}  # fmt: skip
_INTEGERS = {
    "1.0": "1.0", "1e3": "1e3", "1E3": "1E3", "-0": "-0", "-0.0": "-0.0", "-1": "-1", "text": '"7"', "true": "true", "null": "null",
    "an array": "[1]", "an object": "{}", "2^31": "2147483648", "2^63 - 1": "9223372036854775807", "2^63": "9223372036854775808",
    "2^64 - 1": "18446744073709551615", "2^64": "18446744073709551616", "-2^63 - 1": "-9223372036854775809", "40 digits": "1" * 40,
    "1,000 digits": "1" * 1_000, "a leading zero": "01", "a plus": "+1", "a point and no more": "1.", "no digit before the point": ".5",
    "1e": "1e", "1e400": "1e400", "-1e400": "-1e400", "1e-400": "1e-400", "hexadecimal": "0x10", "NaN": "NaN", "Infinity": "Infinity",
    "-Infinity": "-Infinity", "two points": "1.2.3", "an underscore": "1_000",
}  # fmt: skip
_TIMES = _INTEGERS | {
    "seconds": "1700000000", "the last moment of 1970": "31535999999", "the year 10000": "253402300800000", "a float": "1700000000000.5",
    "a whole float": "1700000000000.0", "microseconds": "1700000000000000",
}  # fmt: skip
_NOT_JSON = {
    "empty body": "", "a blank": " ", "not JSON": "user_id=u1", "cut short": body()[:-1], "trailing garbage": body() + "x",
    "two documents": body() + body(), "a comment": "/* */" + body(), "a trailing comma": body()[:-1] + ",}", "a comma too many": body().replace(",", ",,", 1),
    "byte order mark": "\xef\xbb\xbf" + body(), "UTF-16": body().encode("utf-16").decode("latin-1"), "NUL after the document": body() + "\0",
    "bad UTF-8": body(user_id='"?"').replace("?", "\xff"), "cut UTF-8": body(user_id='"?"').replace("?", "\xc3"),
    "overlong UTF-8": body(user_id='"?"').replace("?", "\xc0\xaf"), "a surrogate in UTF-8": body(user_id='"?"').replace("?", "\xed\xa0\x80"),
    "beyond Unicode": body(user_id='"?"').replace("?", "\xf4\x90\x80\x80"), "bad UTF-8 in an unknown field": body(x='"?"').replace("?", "\xff"),
    "bad UTF-8 in a key": body().replace("user_id", "user_id\xff"), "raw NUL in a text": body(user_id='"\0"'), "raw line feed in a text": body(user_id='"a\nb"'),
    "raw tab in a text": body(user_id='"a\tb"'), "unescaped quote": body(user_id='"a"b"'), "single quotes": body(user_id="'u1'"), "bare words": "{user_id:u1}",
    "form feed between": body() + "\x0c", "no-break space between": raw("\u00a0") + body(), "True": body(explain="True"),
    "array at the top": "[]", "array of a good one": "[" + body() + "]", "text at the top": '"u1"', "number at the top": "1", "null at the top": "null",
    "true at the top": "true", "an empty object": "{}", "no user": '{"candidates":["i1"]}', "no candidates": '{"user_id":"u1"}',
    "a number as key": '{1:"u1"}', "a bad repeat of a good value": '{"user_id":"u1","candidates":["i1"],"user_id":7}',
    "surrogate in a key": '{"\\ud800":1}', "surrogate in an unknown field": body(x='"\\ud800"'), "unknown field": body(colour='"blue"'),
    "unknown field in capitals": body(User_Id='"u1"'), "an empty key": '{"":1,"user_id":"u1","candidates":["i1"]}', "__proto__": body(__proto__="{}"),
    "unknown field with a control character": body().replace("user_id", "user\\u0007_id"), "unknown field that is long": body(**{"x" * 100: "1"}),
    "unknown fields": body(**{f"x{number}": "1" for number in range(3)}), "more unknown fields than names": body(**{f"x{number}": "1" for number in range(12)}),
    "an emoji as unknown field": body(**{"🎬": "1"}), "a null field": body(seen="null"), "501 recent, one field unknown": '{"recent":1,"x":2}',
}  # fmt: skip
_ONE = f'{{"item_id":"i1","ts":{T0}}}'
_LARGE: dict[str, tuple[Piece, ...]] = {
    "2,001 candidates": ('{"user_id":"u1","candidates":["i1"', (',"i1"', 2_000), "]}"),
    "2,001 candidates that are numbers": ('{"user_id":"u1","candidates":[1', (",1", 2_000), "]}"),
    "2,001 candidates and no user": ('{"candidates":["i1"', (',"i1"', 2_000), "]}"),
    "501 recent": ('{"user_id":"u1","candidates":["i1"],"recent":[' + _ONE, ("," + _ONE, 500), "]}"),
    "500 recent, the last without an item": (
        '{"user_id":"u1","candidates":["i1"],"recent":[' + _ONE,
        ("," + _ONE, 498),
        f',{{"ts":{T0}}}]}}',
    ),
    "33 attributes": (body(attributes="{" + ",".join(f'"a{number}":1' for number in range(33)) + "}"),),
    "user of 900,000 bytes": ('{"candidates":["i1"],"user_id":"', ("u", 900_000), '"}'),
    "candidate of 900,000 bytes": ('{"user_id":"u1","candidates":["', ("u", 900_000), '"]}'),
    "a number of 100,000 digits": ('{"user_id":"u1","candidates":["i1"],"limit":', ("1", 100_000), "}"),
    "a body of exactly the limit, of blanks": ((" ", 1_048_576),),
    "good, and blanks up to the limit": (body(), (" ", 1_048_576 - len(body()))),
    "nested 100 deep": ('{"user_id":"u1","candidates":', *_deep(100), "}"),
    "nested 1,022 deep": ('{"user_id":"u1","candidates":', *_deep(1_022), "}"),
    "nested 1,023 deep": ('{"user_id":"u1","candidates":', *_deep(1_023), "}"),
    "nested 1,024 deep": ('{"user_id":"u1","candidates":', *_deep(1_024), "}"),
    "nested 100,000 deep": ('{"user_id":"u1","candidates":', *_deep(100_000), "}"),
    "nested 100,000 deep and not closed": ('{"user_id":"u1","candidates":', ("[", 100_000)),
    "objects 1,024 deep": (
        '{"user_id":"u1","candidates":["i1"],"attributes":',
        ('{"a":', 1_024),
        "1",
        ("}", 1_024),
        "}",
    ),
    "objects 1,000 deep": (
        '{"user_id":"u1","candidates":["i1"],"attributes":',
        ('{"a":', 1_000),
        "1",
        ("}", 1_000),
        "}",
    ),
    "an unknown field nested 1,024 deep": ('{"user_id":"u1","candidates":["i1"],"x":', *_deep(1_024), "}"),
    "an unknown field nested 1,000 deep": ('{"user_id":"u1","candidates":["i1"],"x":', *_deep(1_000), "}"),
    "a key 100,000 times": ('{"user_id":"u1","candidates":["i1"]', (',"limit":1', 100_000), "}"),
}
_VALUES = {
    "user_id": _TEXTS | {"cut": '"'},
    "candidates": {f"one is {name}": f'["i1",{text}]' for name, text in _TEXTS.items()}
    | {"empty array": "[]", "null": "null", "text": '"i1"', "an object": '{"0":"i1"}', "a number": "1", "a comma at the end": '["i1",]', "arrays": '[["i1"]]'},
    "limit": _INTEGERS | {"0": "0"},
    "seen": {"null": "null", "false": "false", "another case": '"Keep"', "empty": '""', "a number": "1"},
    "explain": {"0": "0", "1": "1", "text": '"true"', "null": "null", "an array": "[]", "1.0": "1.0", "tru": "tru"},
    "request_time": _TIMES,
    "attributes": {f"one is {name}": f'{{"a":{text}}}' for name, text in _TEXTS.items() if name not in {"a number", "true", "empty", "a blank", "a blank before", "a blank after"}}
    | {f"a name is {name}": f"{{{text}:1}}" for name, text in _TEXTS.items() if text.startswith('"')}
    | {"an array": "[]", "null": "null", "text": '"a"', "a number": "1", "NaN": '{"a":NaN}', "1e999": '{"a":1e999}', "several bad": '{"a":null,"b":[],"c":{}}'},
    "recent": {"an object": "{}", "null": "null", "text": '"i1"', "numbers": "[1]", "null inside": "[null]", "arrays": "[[]]", "empty objects": "[{}]", "one bad among good": f"[{_ONE},7,{_ONE}]",
               "several bad": "[1,2,3]"},
}  # fmt: skip
_RECENT = {
    "item_id": _TEXTS,
    "ts": _TIMES,
    "action": {"unknown": '"buy"', "in capitals": '"Click"', "empty": '""', "null": "null", "a number": "1", "a blank after": '"click "', "an array": '["click"]'},
    "play_ms": _INTEGERS | {"2^32": "4294967296"},
    "value": {"26": "26", "25.6": "25.6", "-0.1": "-0.1", "-1": "-1", "true": "true", "null": "null", "text": '"4"', "NaN": "NaN", "1e400": "1e400", "2^64": "18446744073709551616",
              "25.500000001": "25.500000001", "-0": "-0", "1e-400": "1e-400", "an array": "[4]"},
    "user_id": {"given": '"u1"'},
    "x": {"unknown": "1", "unknown and nested": '{"a":[1]}'},
    "Item_Id": {"unknown": '"i1"'},
}  # fmt: skip
_SEVERAL = {
    "user and limit": body(user_id="7", limit="0"), "all fields": '{"user_id":1,"candidates":2,"limit":"3","recent":4,"attributes":5,"request_time":"6","explain":7}',
    "unknown and missing": '{"x":1}', "candidates and recent": body(candidates="[1]", recent="[1]"), "id and limit": body(user_id='" "', limit="0"),
    "two ids": body(user_id='" u"', candidates='[" i"]'), "candidate and recent ids": body(candidates='[" i"]', recent=f'[{{"item_id":" i","ts":{T0}}}]'),
    "attributes' name and value": body(attributes='{" \\u0000":"\\u0000"}'), "too many attributes and no user": '{"attributes":{' + ",".join(f'"a{number}":1' for number in range(33)) + "}}",
    "recent with all bad": body(recent='[{"item_id":1,"ts":"2","action":3,"play_ms":-4,"value":"5","x":6}]'),
    "recent with more fields than names": body(recent='[{"item_id":1,"ts":"2","a":3,"b":-4,"c":"5","d":6}]'), "recent missing both": body(recent='[{"action":"click"}]'),
    "many attributes": body(attributes="{" + ",".join(f'"a{number}":null' for number in range(20)) + "}"), "long names": body(attributes="{" + ",".join(f'"{chr(97 + number) * 100}":null' for number in range(12)) + "}"),
}  # fmt: skip
_CONTENT_TYPES = (
    None, "", "application/json", "Application/JSON; charset=UTF-8", 'application/json; charset="utf-8"', "application/json;charset=utf-8",
    "application/json ; charset=utf-8 ", "application/json;", "application/json; profile=x", "application/json; charset=iso-8859-1",
    "application/json; charset=utf-8; charset=latin1", "application/json; charset=", "application/json; charset", "application/json charset=utf-8",
    'application/json; profile="x', "application/json/x", "application/ld+json", "text/plain", "text/json", "application/json, text/html",
    "APPLICATION/JSON", "\tapplication/json\t", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", raw("application/jsön"), "*/*",
)  # fmt: skip
