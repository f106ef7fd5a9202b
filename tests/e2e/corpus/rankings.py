"""Rankings that are answered: users, candidates, options, attributes, experiments, request headers."""

from __future__ import annotations

from collections.abc import Iterator

from contract.behaviours.actions import ACTIONS
from tests.e2e.corpus.case import JSON, Case, body, post, raw
from tests.e2e.corpus.rig import START_MS

FIVE = '["i5","i1","i4","i2","i3"]'
SEVERAL = '["' + '","'.join(f"i{number}" for number in range(1, 33)) + '"]'
T0 = str(START_MS)


def _case(name: str, headers: str = JSON, **fields: str) -> Case:
    return Case(name, post(body(**fields), headers=headers))


def _recent(**fields: str) -> str:
    parts = [f'"{name}":{text}' for name, text in ({"item_id": '"i9"', "ts": T0} | fields).items()]
    return "[{" + ",".join(parts) + "}]"


def cases() -> Iterator[Case]:
    """Return all cases of this file."""
    yield from _candidates()
    yield from _unusual()
    yield from _users()
    yield from _recents()
    yield from _attributes()
    yield from _times()
    yield from _explained()
    yield from _headers()
    yield from _overrides()


def _candidates() -> Iterator[Case]:
    lists = {
        "one": '["i1"]', "two": '["i1","i2"]', "two, the other way round": '["i2","i1"]', "five": FIVE,
        "all": SEVERAL, "repeated": '["i2","i1","i2","i2","i1"]', "one, repeated": '["i7","i7","i7"]',
        "tied": '["i32","i1","i25","i28","i2"]', "tied, other order": '["i28","i25","i2","i32","i1"]',
        "unknown among known": '["new-2","i1","new-1","i2"]', "unknown first and repeated": '["new-1","i1","new-1"]',
        "unknown only": '["new-2","new-1"]', "one unknown": '["i33"]', "index 0": '["i0","i1"]',
        "like numbers": '["1","2","03"]', "capitals": '["I1","i1"]',
    }  # fmt: skip
    for name, candidates in lists.items():
        yield _case(f"candidates: {name}", candidates=candidates)
    yield Case("candidates: 2,000, all the same", post('{"user_id":"u1","candidates":["i1"', (',"i1"', 1_999), "]}"))
    for limit in ("1", "2", "3", "4", "5", "6", "2147483647"):
        yield _case(f"limit {limit} of 5", candidates=FIVE, limit=limit)
    yield _case("limit 2 of tied ones", candidates='["i30","i29","i26","i27","i1"]', limit="2")
    yield _case("limit 3 of known and unknown", candidates='["new-1","i1","i2","new-2"]', limit="3")
    yield _case("limit 1 of unknown ones", candidates='["new-1","new-2"]', limit="1")
    yield _case("limit 1 of 32", candidates=SEVERAL, limit="1")
    yield _case("limit 7 of 32", candidates=SEVERAL, limit="7")
    yield _case("limit 8 of 32", candidates=SEVERAL, limit="8")
    yield _case("limit 9 of 32, user of control", user_id='"u3"', candidates=SEVERAL, limit="9")


def _unusual() -> Iterator[Case]:
    good = body()
    yield Case("blanks around the body", post(" \r\n\t" + good + "\n  "))
    yield Case("blanks inside the body", post('{ "user_id" :\t"u1" ,\r\n"candidates" : [ "i1" , "i2" ] }'))
    yield Case(
        "a key twice: the last counts", post('{"user_id":"x","candidates":["i9"],"user_id":"u1","candidates":["i1"]}')
    )
    yield Case("a bad value and its good repeat", post('{"limit":"x","user_id":"u1","candidates":["i1"],"limit":1}'))
    yield Case("escaped keys", post('{"\\u0075ser_id":"u1","candidates":["i1","i2"]}'))
    yield Case("escaped ids", post('{"user_id":"\\u00751","candidates":["\\u0069\\u0031","i\\/1"]}'))
    yield Case(
        "keys in another order", post('{"explain":false,"limit":2,"candidates":["i1","i2","i3"],"user_id":"u1"}')
    )
    yield _case("emoji", user_id='"👩‍👩‍👧‍👦"', candidates='["🎬","\\ud83c\\udfac2","i1"]')
    yield _case("bidi, joiners, combining", user_id='"\u202eabc\u200d"', candidates='["e\u0301","é","i1"]')
    yield _case("id of 128 bytes", user_id=f'"{"u" * 128}"', candidates=f'["{"é" * 64}","{"i" * 128}"]')
    yield _case("blanks inside ids", user_id='"a b"', candidates='["the third man","a  b"]')
    yield _case("quotes, backslashes and markup in ids", user_id='"\\"<&>\\\\"', candidates='["\\"i1\\"","<b>","\\\\"]')
    yield _case("U+2028 and U+FEFF inside", user_id='"a\u2028b"', candidates='["a\ufeffb"]')
    yield _case("attributes that are empty, recent that is empty", attributes="{}", recent="[]")
    yield _case("explain false", explain="false")
    for way in ("keep", "last", "drop"):
        yield _case(f"seen: {way}", user_id='"u3"', candidates=FIVE, recent=_recent(item_id='"i2"'), seen=f'"{way}"')


def _users() -> Iterator[Case]:
    for number in range(1, 41):
        yield _case(f"user u{number}", user_id=f'"u{number}"', candidates='["i5","i1","i4"]', request_time=T0)
    for user in ("cold-1", "two", "four", "long", "kinds", "looker", "foreign", "partly", "torn", "corrupt", "empty",
                 "wrong", "qa-0001"):  # fmt: skip
        yield _case(f"user {user}", user_id=f'"{user}"', candidates=FIVE, request_time=T0)


def _recents() -> Iterator[Case]:
    for action in ACTIONS:
        yield _case(f"recent: {action}", user_id='"u3"', recent=_recent(action=f'"{action}"'))
    for name, fields in {
        "plain": {}, "play_ms 0": {"play_ms": "0"}, "longest play": {"play_ms": "4294967295"}, "value 0": {"value": "0"},
        "value 4.5": {"value": "4.5"}, "value 25.5": {"value": "25.5"}, "value 5": {"value": "5"},
        "value 1e1": {"value": "1e1"}, "value -0.0": {"value": "-0.0"}, "value 0.04": {"value": "0.04"},
        "all": {"action": '"play"', "play_ms": "9000", "value": "4.0"}, "from 1971": {"ts": "31536000000"},
        "in the year 9999": {"ts": "253402300799999"}, "unknown item": {"item_id": '"nowhere"'},
        "an item twice in a field": {"item_id": '"i1","item_id":"i2"'},
    }.items():  # fmt: skip
        yield _case(f"recent: {name}", user_id='"u3"', recent=_recent(**fields))
        yield _case(f"recent, treatment: {name}", user_id='"u8"', recent=_recent(**fields))
    several = [f'{{"item_id":"i{number}","ts":{START_MS + place}}}' for place, number in enumerate([3, 9, 12, 20, 6])]
    yield _case("recent: two", user_id='"u3"', recent=f"[{several[0]},{several[1]}]")
    yield _case("recent: two, later first", user_id='"u3"', recent=f"[{several[1]},{several[0]}]")
    yield _case("recent: more than the model reads", user_id='"u3"', recent=f"[{','.join(several)}]")
    yield _case("recent: at the same time", user_id='"u3"', recent=f"[{several[0]},{several[0].replace('i3', 'i4')}]")
    yield _case("recent: stored already", user_id='"two"', recent=f"[{several[0]},{several[1]}]")
    yield _case("recent: one stored, one new", user_id='"two"', recent=f"[{several[1]},{several[2]}]")
    yield _case("recent: of a user with a long history", user_id='"long"', recent=_recent(ts=str(START_MS + 10_000)))
    one = f'{{"item_id":"i3","ts":{T0}}}'
    yield Case("recent: 500", post('{"user_id":"u3","candidates":["i1","i2"],"recent":[' + one, ("," + one, 499), "]}"))


def _attributes() -> Iterator[Case]:
    adult = '"age":21,"is_new":false'
    values = {
        "of every kind": '{"s":"x","i":1,"f":1.5,"b":true,"empty":""}', "ios": f'{{"platform":"ios",{adult}}}',
        "web": f'{{"platform":"web",{adult}}}', "a child": '{"platform":"ios","age":17,"is_new":false}',
        "age as float": '{"platform":"ios","age":18.0,"is_new":false}', "age 17.999": '{"platform":"ios","age":17.999,"is_new":false}',
        "age as text": '{"platform":"ios","age":"21","is_new":false}', "age as boolean": '{"platform":"ios","age":true,"is_new":false}',
        "is_new as number": '{"platform":"ios","age":21,"is_new":0}', "none": "{}", "platform only": '{"platform":"android"}',
        "a key twice": f'{{"platform":"web","platform":"ios",{adult}}}', "huge numbers": '{"a":1e308,"b":-1e-308,"c":9223372036854775807}',
        "unsigned 64 bits": '{"age":18446744073709551615}', "beyond 64 bits": '{"age":18446744073709551616}',
        "below 64 bits": '{"age":-9223372036854775809}', "minus zero": '{"age":-0,"b":-0.0}',
        "text of 128 characters": f'{{"a":"{"x" * 128}"}}', "a name with a blank inside": '{"a b":1}',
        "a name with a blank at the end": '{"a ":1}', "a blank as text": '{"a":" "}', "emoji": '{"🎬":"🎬"}',
    }  # fmt: skip
    for name, attributes in values.items():
        yield _case(f"attributes: {name}", user_id='"u4"', attributes=attributes)
        yield _case(f"attributes, targeted: {name}", user_id='"u12"', attributes=attributes)
    names = ",".join(f'"a{number}":{number}' for number in range(32))
    yield _case("attributes: 32", attributes=f"{{{names}}}")


def _times() -> Iterator[Case]:
    for time in ("31536000000", "31536000001", T0, "253402300799999", "1700000000123"):
        yield _case(f"request_time {time}, a model that reads it", user_id='"qa-0001"', request_time=time)
        yield _case(f"request_time {time}", user_id='"u8"', request_time=time)


def _explained() -> Iterator[Case]:
    for user in ("u3", "u8", "two", "four", "long", "kinds", "looker", "foreign", "partly", "torn", "corrupt", "wrong",
                 "qa-0001"):  # fmt: skip
        yield _case(f"explained: {user}", user_id=f'"{user}"', candidates=FIVE, explain="true", request_time=T0)
    again = {"user_id": '"u3"', "recent": _recent(item_id='"i17"'), "explain": "true"}
    yield _case("explained: recent, first", **again)
    yield _case("explained: recent, again", **again)
    yield _case("explained: unknown only", user_id='"u3"', candidates='["new-1","new-2"]', explain="true")
    yield _case(
        "explained: unknown and limit", user_id='"u8"', candidates='["new-1","i1","i2"]', explain="true", limit="2"
    )


def _headers() -> Iterator[Case]:
    ids = {
        "plain": "abc", "of every character": "a.b_c:d+e/f=g@h-0", "of 128 characters": "a" * 128, "of 129": "a" * 129,
        "with a blank": "a b", "empty": "", "of one character": "0", "that begins with a dot": ".a", "in quotes": '"a"',
        "in UTF-8": raw("é"), "like one that is made": "0" * 32, "with blanks around": "  around-1  ",
    }  # fmt: skip
    for name, value in ids.items():
        yield _case(f"X-Request-Id {name}", f"{JSON}x-request-id: {value}\r\n")
    yield _case("X-Request-Id twice", f"{JSON}x-request-id: twice-1\r\nx-request-id: twice-2\r\n")
    yield _case("X-Request-Id twice, the first unfit", f"{JSON}x-request-id: !\r\nx-request-id: second-1\r\n")
    yield _case("X-Request-Id in capitals", f"{JSON}X-REQUEST-ID: capitals-1\r\n")
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    traces = {
        "good": good, "of a later version": "cc" + good[2:], "of version ff": "ff" + good[2:], "in capitals": good.upper(),
        "of zeros": "00-" + "0" * 32 + good[35:], "with a parent of zeros": good[:36] + "0" * 16 + "-01", "short": good[:-1],
        "long": good + "-x", "empty": "",
    }  # fmt: skip
    for name, value in traces.items():
        yield _case(f"traceparent {name}", f"{JSON}traceparent: {value}\r\n")
    yield _case("traceparent twice", f"{JSON}traceparent: {good}\r\ntraceparent: 01{good[2:]}\r\n")
    for value in ("10000", "20000", "999999999", "007000"):
        yield _case(f"X-Deadline-Ms {value}", f"{JSON}x-deadline-ms: {value}\r\n")
    for value in ("", "-1", "1.5", "1e3", "abc", "1000000000", "+5", "0x10", "5 5", raw("٣")):
        yield _case(f"X-Deadline-Ms unfit: {value!a}", f"{JSON}x-deadline-ms: {value}\r\n")
    yield _case("X-Deadline-Ms twice", f"{JSON}x-deadline-ms: 9000\r\nx-deadline-ms: abc\r\n")
    yield _case("X-Deadline-Ms twice, the first unfit", f"{JSON}x-deadline-ms: abc\r\nx-deadline-ms: 9000\r\n")
    yield _case("X-Deadline-Ms unfit and a bad body", f"{JSON}x-deadline-ms: abc\r\n", limit="0")
    yield _case("X-Deadline-Ms unfit, user of the holdout", f"{JSON}x-deadline-ms: abc\r\n", user_id='"u37"')
    yield _case("many other headers", JSON + "".join(f"x-other-{number}: {number}\r\n" for number in range(50)))
    yield _case("Accept, User-Agent, Cookie", f"{JSON}accept: text/html\r\nuser-agent: x\r\ncookie: a=b\r\n")
    yield _case("Origin, without CORS", f"{JSON}origin: https://feed.example\r\n")
    yield _case("Connection: keep-alive", f"{JSON}connection: keep-alive\r\n")
    yield _case("Connection: close", f"{JSON}connection: close\r\n")
    yield _case(
        "Upgrade: h2c",
        f"{JSON}connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
    )


def _overrides() -> Iterator[Case]:
    wish = "rank=models:treatment"
    headers = {
        "good": f"<override of u3 to {wish}, 0 s old>", "good, to control": "<override of u3 to rank=models:control, 5 s old>",
        "good, of two layers": f"<override of u3 to {wish}, blend=diversity:bold, 0 s old>",
        "good, to a draft": "<override of u3 to rank=later:treatment, 0 s old>",
        "too old": f"<override of u3 to {wish}, 900 s old>", "of another user": f"<override of u8 to {wish}, 0 s old>",
        "to an unknown arm": "<override of u3 to rank=models:nothing, 0 s old>",
        "to an unknown layer": "<override of u3 to other=models:treatment, 0 s old>",
        "wrongly signed": f'{wish};t=1700000000;s="{"0" * 64}"', "malformed": "yes please", "empty": "",
        "too long": wish + "x" * 1_100, "in UTF-8": raw("é"),
    }  # fmt: skip
    for name, value in headers.items():
        yield _case(f"override: {name}", f"{JSON}x-ab-override: {value}\r\n", user_id='"u3"')
    yield _case(
        "override: twice",
        f"{JSON}x-ab-override: <override of u3 to {wish}, 0 s old>\r\nx-ab-override: no\r\n",
        user_id='"u3"',
    )
    yield _case(
        "override: of a bad body",
        f"{JSON}x-ab-override: <override of u3 to {wish}, 0 s old>\r\n",
        user_id='"u3"',
        limit="0",
    )
