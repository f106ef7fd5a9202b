"""The route by which features of items come in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from fastapi import APIRouter, Request, Response

from contract.bundle.item_features import FeatureCoder, FeatureError
from contract.experiments.rules import ruled_features
from service.errors import StoreDown
from service.http import answers, codec, requests
from service.http.body import json_answer, json_body, pieces
from service.http.operation import documented
from service.runtime import Runtime
from service.store.behaviours import StoreUnavailable
from service.store.items import MAX_BYTES, packed_size


def item_routes(runtime: Runtime) -> APIRouter:
    """Return the route by which features of items come in."""
    router = APIRouter(tags=["items"])
    limits, turns = runtime.settings.limits, runtime.admission.turns

    @router.post("/items", **documented("store_items", requests.ItemsRequest, answers.ItemsResponse, StoreDown))
    async def store(request: Request) -> Response:
        """Store features of items, in place of their earlier ones. Sending them again is safe."""
        backend = runtime.needed()
        body = await json_body(request, limits.max_body_bytes)
        await turns.take()
        with turns.charged():
            items = codec.parse_items(body, limits)
            coders = [one.new_items.coder for one in backend.bundles.served() if one.new_items is not None]
            snapshot = backend.experiments.snapshot
            refused = _refused(items, coders, ruled_features(snapshot.config.rules) if snapshot else frozenset())
        kept = {one.item_id: one.features for place, one in enumerate(items) if place not in refused}
        try:
            for names in pieces(list(kept)):
                await backend.items.store({name: kept[name] for name in names})
        except StoreUnavailable as error:
            raise StoreDown from error
        runtime.metrics.items_written(stored=len(kept), refused=len(refused))
        return json_answer(
            answers.ItemsResponse(
                stored=len(kept),
                refused=len(refused),
                refusals=[answers.ItemRefusal(index=place, problem=refused[place]) for place in sorted(refused)],
            )
        )

    return router


def _refused(items: Sequence[requests.Item], coders: Sequence[FeatureCoder], ruled: Set[str]) -> Mapping[int, str]:
    """Return why items are not stored, by place: too large, or no served bundle can read all of the features.

    Rules may read further features, those of `ruled`.
    """
    found = {}
    for place, item in enumerate(items):
        if packed_size(item.features) > MAX_BYTES:
            found[place] = f"the features take more than {MAX_BYTES} bytes"
        elif coders and (problems := [_problem(coder, item.features, ruled) for coder in coders]) and all(problems):
            found[place] = problems[0]
    return found


def _problem(coder: FeatureCoder, features: Mapping[str, object], ruled: Set[str]) -> str:
    try:
        coder.codes({name: value for name, value in features.items() if name not in ruled or coder.reads(name)})
    except FeatureError as error:
        return str(error)
    return ""
