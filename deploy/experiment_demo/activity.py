"""The events of a visit, as an app would send them to `POST /feedback`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from contract.events.activity import ActivityReport, ActivityType
from deploy.experiment_demo.people import User
from deploy.experiment_demo.session import GAP_SECONDS, View

HEARTBEAT_SECONDS: Final = 15.0


class Visit(NamedTuple):
    """One ranked list and what the user did with it.

    Attributes:
        user: who came.
        day: the simulated day.
        request_id: of the ranking.
        views: in order.
    """

    user: User
    day: int
    request_id: str
    views: Sequence[View]

    @property
    def seconds(self) -> float:
        """Return how long the visit lasts, in simulated seconds."""
        return sum(view.seconds + GAP_SECONDS for view in self.views)


class Item(NamedTuple):
    """An item as events name it."""

    id: str
    seconds: float


def reports(visit: Visit, item: Callable[[int], Item], real_ms: Callable[[float], int]) -> list[ActivityReport]:
    """Return the events of a visit in order of time.

    Args:
        visit: the visit.
        item: the id and length of an item.
        real_ms: the real time of a simulated second of the visit.
    """
    moments = sorted(_moments(visit, item), key=lambda moment: moment.second)
    name = f"{visit.user.id}/{visit.day}"
    return [
        {
            "user_id": visit.user.id,
            "type": moment.kind,
            "event_id": f"{name}/{number}",
            "ts": real_ms(moment.second),
            "device_id": visit.user.device,
            "request_id": visit.request_id,
            "tz_offset": 0,
            **moment.fields,  # type: ignore[typeddict-item]  # further fields, by construction
        }
        for number, moment in enumerate(moments)
    ]


class _Moment(NamedTuple):
    second: float
    kind: ActivityType
    fields: dict[str, Any]  # Any: the fields of an event


def _moments(visit: Visit, item: Callable[[int], Item]) -> Iterator[_Moment]:
    """Yield all events of a visit, not in order."""
    yield _Moment(0.0, "foreground", {})
    begin = 0.0
    for view in visit.views:
        yield from _of_view(visit, view, item(view.item), begin)
        begin += view.seconds + GAP_SECONDS
    for beat in range(1, int(visit.seconds / HEARTBEAT_SECONDS) + 1):
        yield _Moment(beat * HEARTBEAT_SECONDS, "heartbeat", {})
    yield _Moment(visit.seconds, "background", {})


def _of_view(visit: Visit, view: View, item: Item, begin: float) -> Iterator[_Moment]:
    subject = {"item_id": item.id, "author_id": f"author-of-{item.id}"}
    play = {**subject, "view_id": f"{visit.request_id}/{item.id}", "duration_ms": round(item.seconds * 1000)}
    end = begin + view.seconds
    yield _Moment(begin, "play_start", play)
    yield _Moment(end, "play_end", {**play, "play_ms": round(view.seconds * 1000)})
    for reaction in view.reactions:
        yield _Moment(end, reaction, subject)
