from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from contract.behaviours.actions import ACTION_CODES
from contract.behaviours.records import item_keys, pack, records_from_columns, unpack

VECTORS = json.loads((Path(__file__).parent / "vectors" / "behaviours.json").read_text(encoding="utf-8"))
RECORDS = VECTORS["records"]


def test_item_keys_are_those_of_the_specification() -> None:
    expected = [int(record["item_key"], 16) for record in RECORDS]
    assert item_keys(record["item_id"] for record in RECORDS).tolist() == expected


def test_records_pack_to_the_bytes_of_the_specification() -> None:
    records = records_from_columns(
        item_keys(record["item_id"] for record in RECORDS),
        np.array([record["ts"] for record in RECORDS]),
        np.array([ACTION_CODES[record["action"]] for record in RECORDS], dtype=np.uint8),
        np.array([record["play_ms"] for record in RECORDS]),
        np.array([record["value"] for record in RECORDS]),
    )
    assert pack(records).hex() == "".join(record["hex"] for record in RECORDS)


@pytest.mark.parametrize("value", VECTORS["values"], ids=lambda value: value["name"])
def test_value_gives_the_records_of_the_specification(value: dict[str, object]) -> None:
    unpacked = unpack([bytes.fromhex(str(value["hex"]))])
    valid = value["valid"]
    assert isinstance(valid, list)
    assert pack(unpacked.records).hex() == "".join(RECORDS[place]["hex"] for place in valid)
    assert unpacked.counts == [len(valid)]
    assert unpacked.corrupt == [value["corrupt"]]


def test_batch_gives_the_same_as_its_values_one_by_one() -> None:
    contents = [bytes.fromhex(value["hex"]) for value in VECTORS["values"]]
    batch = unpack([None, *contents])
    assert batch.counts == [0, *(len(value["valid"]) for value in VECTORS["values"])]
    assert batch.corrupt == [0, *(value["corrupt"] for value in VECTORS["values"])]
    assert pack(batch.records) == b"".join(pack(unpack([content]).records) for content in contents)
