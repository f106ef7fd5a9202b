"""A typed client of Ranker: `RankerClient` blocks, `AsyncRankerClient` awaits (docs/client.md)."""

from ranker_client.asynchronous import AsyncRankerClient
from ranker_client.errors import DeadlinePassed, NoAnswer, RankerError, Refused
from ranker_client.results import (
    Appended,
    FeedbackTaken,
    Info,
    Item,
    ItemsStored,
    Ranking,
    RankResult,
    Refusal,
)
from ranker_client.retries import Retries
from ranker_client.synchronous import RankerClient

__all__ = [
    "Appended",
    "AsyncRankerClient",
    "DeadlinePassed",
    "FeedbackTaken",
    "Info",
    "Item",
    "ItemsStored",
    "NoAnswer",
    "RankResult",
    "RankerClient",
    "RankerError",
    "Ranking",
    "Refusal",
    "Refused",
    "Retries",
]
