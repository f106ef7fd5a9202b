"""A log whose rows are on disk, and what is known about its users and items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from training.data.attributes import AttributeValues
from training.data.datasets.interactions import ItemFacts
from training.data.files.spill import Spilled
from training.data.item_field import FieldSource


@dataclass(frozen=True)
class LargeLog:
    """As `Interactions`, without context, labels of the source and made-up times.

    Attributes:
        name, source, digest, catalogue, fields, read: as in `Interactions`.
        rows: on disk.
        users, items: ids by code.
        window_ms: between an impression and the action that answers it.
        attributes: values of the attributes of requests, by name, in the order of the rows' columns.
    """

    name: str
    source: str
    digest: str
    rows: Spilled
    users: list[str]
    items: list[str]
    window_ms: int
    catalogue: Mapping[str, ItemFacts]
    fields: Mapping[str, FieldSource] | None
    read: Mapping[str, int] = field(default_factory=dict)
    has_times: bool = True
    impressions: None = None
    attributes: Mapping[str, AttributeValues] = field(default_factory=dict)

    @property
    def has_impressions(self) -> bool:
        """Whether there are rows of that action."""
        return self.rows.impressions > 0

    @property
    def size(self) -> tuple[int, int, int]:
        """The numbers of rows, users and items."""
        return self.rows.rows, self.rows.users, self.rows.items
