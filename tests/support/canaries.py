"""Planted values that must not leave the service, and the search for them in its outputs, in any usual encoding."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

USER: Final = "canary-user-7f3a91"
ITEM: Final = "canary-item-58c2d0"
AUTHOR: Final = "canary-author-e0417b"
DEVICE: Final = "canary-device-c93d55"
VALUE: Final = "canary-value-41ab6e"  # of an attribute, a feature, a query: anything else that a caller sends
PASSWORD: Final = "canary-password-0d7e66"
OVERRIDE_SECRET: Final = "canary-override-secret-2b88f1d4c7"
PSEUDONYM_KEY: Final = "canary-pseudonym-key-96a4c03e1f"
WRONG_KEY: Final = "rk_canary-wrong-api-key-3c5f"
SECRETS: Final = (PASSWORD, OVERRIDE_SECRET, PSEUDONYM_KEY, WRONG_KEY)
PEOPLE: Final = (USER, AUTHOR, DEVICE)
LONG, ODD = "x" * 200, "\u0007"  # no id has 200 characters, or a control character
UNITS: Final = tuple(
    f"units: {{{one}}}"
    for one in (
        f'{USER}: {{rank: "no-such:arm"}}', f"{USER}: {{rank: 5}}", f"{USER}: {{rank: .nan}}", f"{USER}: 5",
        f"{USER}: {{}}, {USER}: {{}}", f"!{USER} x: {{}}", f"&{USER} x: {{}}, &{USER} y: {{}}", f"*{USER} : {{}}",
        f"{USER}: {{}}}}, {ITEM}: {{{USER}: {{}}",
    )
)  # fmt: skip
"""The overrides of an experiments file with one mistake each."""


def forms(canary: str) -> Iterator[bytes]:
    """Yield the encodings of a text that an output might have."""
    raw = canary.encode()
    yield from {raw, raw.upper(), quote(canary, safe="").encode(), raw.hex().encode(), raw[::-1]}
    for shift in range(3):  # Base64 depends on the place in its group of three; the ends depend on what is beside
        padded = base64.b64encode(b"\0" * shift + raw)
        yield padded[4:-4]


def found(outputs: Mapping[str, bytes], canaries: tuple[str, ...]) -> list[str]:
    """Return each output that has a canary, with the canary and the bytes around it."""
    return [
        f"{name}: {canary} in {content[max(0, place - 60) : place + 60]!r}"
        for name, content in outputs.items()
        for canary in canaries
        if (place := next((at for form in forms(canary) if (at := content.find(form)) >= 0), -1)) >= 0
    ]


def spoilt(good: Any) -> Iterator[Any]:
    """Yield a document with one mistake at every place, the canaries of which are in the same place or beside it."""
    if isinstance(good, dict):
        for key, value in good.items():
            yield from ({**good, key: wrong} for wrong in spoilt(value))
            yield {other: one for other, one in good.items() if other != key}
        yield {**good, "unknown": {USER: ITEM, ITEM: USER}}
        yield [good]
    elif isinstance(good, list):
        for place, value in enumerate(good):
            yield from ([*good[:place], wrong, *good[place + 1 :]] for wrong in spoilt(value))
        yield {USER: good, ITEM: good}
        yield good * 3000
    elif isinstance(good, str):
        yield from ([good], {good: good}, f"{good}{ODD}", f"{good}{LONG}", f"{good}\ud800", 17)
    else:
        yield from (USER, [ITEM], {USER: ITEM}, -(10**30), 1e308)
