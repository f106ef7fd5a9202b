"""The access file on a disk: what a change does, and that a bad one does nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from service.access.access import Access
from service.access.keys import hash_of, new_key
from service.access.live import AccessSource, ReloadResult
from service.errors import StartError
from service.flow.gate import Gate

pytestmark = pytest.mark.anyio


class Place:
    """A file, and what the service makes of it."""

    def __init__(self, folder: Path) -> None:
        self.path, self.access, self.results = folder / "access.yaml", Access(1, Gate(64)), Counter[str]()
        self.source = AccessSource(self.path, self.access, self)

    def access_reloaded(self, result: ReloadResult) -> None:
        self.results[result] += 1

    def write(self, *keys: str) -> None:
        hashes = ", ".join(f"'{hash_of(key)}'" for key in keys)
        self.path.write_text(f"callers:\n  - {{id: feed, scopes: [rank], keys: [{hashes}]}}\n")

    def works(self, key: str) -> bool:
        return self.access.allowed([(b"authorization", b"Bearer " + key.encode())], "rank") is not None


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_a_key_is_replaced_without_a_pause(place: Place) -> None:
    old, new = new_key(), new_key()
    place.write(old)
    await place.source.start()
    assert (place.works(old), place.works(new)) == (True, False)
    place.write(old, new)
    assert await place.source.look() == []
    assert (place.works(old), place.works(new)) == (True, True)
    place.write(new)
    assert await place.source.look() == []
    assert (place.works(old), place.works(new)) == (False, True)
    assert await place.source.look() == []
    assert place.results == {"accepted": 3, "unchanged": 1}


@pytest.mark.parametrize("text", ["callers: []", "callers: {", "\0"])
async def test_a_bad_file_keeps_the_last_good_one(place: Place, text: str) -> None:
    key = new_key()
    place.write(key)
    await place.source.start()
    place.path.write_text(text)
    assert await place.source.look() != []
    await place.source.look()
    assert place.works(key)
    place.path.unlink()
    assert await place.source.look() != []
    assert place.works(key)
    assert place.results == {"accepted": 1, "invalid": 2, "unreadable": 1}
    place.write(key)
    assert await place.source.look() == []
    assert place.results["accepted"] == 2


async def test_the_good_file_of_before_counts_as_accepted_after_a_bad_one(place: Place) -> None:
    key = new_key()
    place.write(key)
    await place.source.start()
    place.path.rename(place.path.with_suffix(".old"))
    await place.source.look()
    place.path.with_suffix(".old").rename(place.path)
    await place.source.look()
    assert place.results == {"accepted": 1, "unreadable": 1, "unchanged": 1}


async def test_a_start_without_a_good_file_is_refused_with_the_reason(place: Place) -> None:
    with pytest.raises(StartError, match=r"RANKER_ACCESS__FILE: .*access.yaml: cannot be read \(No such file"):
        await place.source.start()
    place.path.write_text("callers:\n  - {id: feed, scopes: [rank], keys: [rk_secret]}\n")
    with pytest.raises(StartError, match=r"line 2: callers.0.keys.0: ") as caught:
        await place.source.start()
    assert "rk_secret" not in str(caught.value)
