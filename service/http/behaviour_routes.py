"""The routes by which behaviours come in and are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from starlette.convertors import PathConvertor, register_url_convertor

from contract.behaviours.grammar import is_id
from contract.behaviours.records import Records
from service.errors import (
    InvalidRequest,
    StoreDown,
)
from service.flow.turns import Turns
from service.http import answers, codec, requests
from service.http.behaviour_records import records_by_user, stored_body
from service.http.body import JSON, json_answer, json_body, pieces
from service.http.documents import ID_RULE
from service.http.operation import documented
from service.runtime import Runtime
from service.store.behaviours import AppendResult, RedisBehaviourStore, StoreUnavailable


class _Anything(PathConvertor):
    """All of the rest of a path; Starlette's own `path` leaves out a line break, and the route with it."""

    regex = r"(?s:.*)"


register_url_convertor("anything", _Anything())


def behaviour_routes(runtime: Runtime) -> APIRouter:
    """Return the routes by which behaviours come in and are shown."""
    router = APIRouter(tags=["behaviours"])
    limits, turns = runtime.settings.limits, runtime.admission.turns

    @router.post(
        "/behaviours",
        **documented("append_behaviours", requests.BehavioursRequest, answers.BehavioursResponse, StoreDown),
    )
    async def append(request: Request) -> Response:
        """Store behaviours. Sending them again is safe, and the next ranking sees them."""
        store = runtime.needed().store
        body = await json_body(request, limits.max_body_bytes)
        await turns.take()
        with turns.charged():
            behaviours = codec.parse_behaviours(body, limits)
        latest_ms = runtime.now_ms() + limits.max_future_ms
        future = [place for place, behaviour in enumerate(behaviours) if behaviour["ts"] > latest_ms]
        answer = await _append(store, behaviours, set(future), turns)
        reasons = Counter(refusal.reason for refusal in answer.refusals)
        runtime.metrics.behaviours_written(stored=answer.stored, repeated=answer.repeated, refused=reasons)
        return json_answer(answer)

    if runtime.settings.http.behaviours_enabled:

        @router.get(
            "/behaviours/{user_id:anything}",
            **documented("get_behaviours", None, answers.StoredBehavioursResponse, InvalidRequest),
        )
        async def stored(user_id: Annotated[str, Path(json_schema_extra=requests.ID_SCHEMA)]) -> Response:
            """Show what is stored of a user, newest first: for people."""
            if not is_id(user_id):
                raise InvalidRequest(ID_RULE, field="user_id")
            backend = runtime.needed()
            [found] = await backend.store.read((user_id,))
            return Response(
                stored_body(user_id, found, [bundle.items for bundle in backend.bundles.served()]),
                media_type=JSON,
            )

    return router


async def _append(
    store: RedisBehaviourStore, behaviours: Sequence[requests.UserBehaviour], future: set[int], turns: Turns
) -> answers.BehavioursResponse:
    """Append all that are not too far ahead, and say what became of each."""
    kept = [place for place in range(len(behaviours)) if place not in future]
    await turns.take()
    with turns.charged():
        users = records_by_user([behaviours[place] for place in kept])
    results = await _append_in_pieces(store, {user_id: records for user_id, (_, records) in users.items()}, turns)
    refused = dict.fromkeys(future, "future")
    for user_id, (places, _) in users.items():
        if results[user_id].error is not None:
            refused |= {kept[place]: "wrong_type" for place in places}
    return answers.BehavioursResponse(
        stored=sum(result.stored for result in results.values()),
        repeated=sum(result.repeated for result in results.values()),
        refused=len(refused),
        refusals=[
            answers.Refusal.model_validate({"index": place, "reason": refused[place]}) for place in sorted(refused)
        ],
    )


async def _append_in_pieces(
    store: RedisBehaviourStore, users: Mapping[str, Records], turns: Turns
) -> dict[str, AppendResult]:
    """Append the behaviours of some users at a time: neither the event loop nor Redis is held up by a large request."""
    results: dict[str, AppendResult] = {}
    for names in pieces(list(users)):
        await turns.take()
        try:
            with turns.charged():
                results |= await store.append({name: users[name] for name in names})
        except StoreUnavailable as error:
            raise StoreDown from error
        if any(results[name].error == "unavailable" for name in names):
            raise StoreDown
    return results
