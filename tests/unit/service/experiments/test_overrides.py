import hashlib
import hmac
import time
from pathlib import Path
from typing import Any

import http_sf
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from contract.experiments.assignment import ExperimentsSnapshot, snapshot_of
from deploy.experiments import write_current
from service.app.serving import create_app
from service.experiments.overrides import MAX_AGE_SECONDS, MAX_SKEW_SECONDS, Overrides, sign, signature
from service.settings.bundles import BundlesSettings
from service.settings.experiments import ExperimentsSettings
from service.settings.redis import RedisSettings
from service.settings.root import Settings
from tests.support.builders import TinyModel
from tests.support.redis_server import RedisServer

SECRET = "a-secret-of-the-testers-that-is-long"
NOW = 1_765_000_000
WISH = "rank=pyramid-vs-mgnm:treatment"


def _experiment(key: str, **changes: Any) -> dict[str, Any]:
    return {
        "key": key,
        "kind": "ab",
        "salt": key,
        "status": "running",
        "start": "2025-12-01T00:00:00Z",
        "end": "2025-12-20T00:00:00Z",
        "owner": "feed-ranking",
        "slots": [[0, 10000]],
        "arms": [
            {"key": "control", "buckets": [[0, 5000]]},
            {"key": "treatment", "buckets": [[5000, 10000]]},
        ],
        **changes,
    }


def _snapshot(*, header_enabled: bool = True, **changes: Any) -> ExperimentsSnapshot:
    stopped = _experiment("stopped-one", status="stopped", slots=[])
    return snapshot_of(
        {
            "schema": 1,
            "revision": "r1",
            "overrides": {"header_enabled": header_enabled},
            "layers": [
                {
                    "key": "rank",
                    "salt": "feed-rank",
                    "defaults": {"model": "mgnm", "version": "1"},
                    "experiments": [_experiment("pyramid-vs-mgnm"), stopped],
                },
                {
                    "key": "blend",
                    "salt": "feed-blend",
                    "defaults": {"diversity": 0.0},
                    "experiments": [_experiment("more-diverse")],
                },
            ],
            **changes,
        }
    )


class _Judge:
    """Overrides with a secret, the reasons it counted, and one experiment file."""

    def __init__(self, secret: str | None = SECRET, snapshot: ExperimentsSnapshot | None = None) -> None:
        self.reasons: list[str] = []
        self.snapshot = snapshot or _snapshot()
        self.overrides = Overrides(secret, self.reasons.append)

    def __call__(self, header: str | None, unit: str = "user-1", now: float = NOW) -> dict[str, str] | None:
        forced = self.overrides.forced(header, unit, self.snapshot, int(now * 1000))
        return None if forced is None else dict(forced)


def test_signed_wish_is_granted_and_counts_nothing() -> None:
    judge = _Judge()
    assert judge(sign(SECRET, NOW, "user-1", WISH)) == {"rank": "pyramid-vs-mgnm:treatment"}
    assert judge.reasons == []


def test_granted_wish_decides_the_arm_with_reason_override_and_forced() -> None:
    judge = _Judge()
    forced = judge(sign(SECRET, NOW, "user-1", WISH))
    decision = judge.snapshot.decide("user-1", {}, NOW * 1000, forced)
    rank = decision.layers[0]
    assert (rank.experiment, rank.arm, rank.reason, rank.forced) == ("pyramid-vs-mgnm", "treatment", "override", True)
    assert decision.layers[1].reason == "split"


def test_wishes_for_two_layers_stand_in_one_header() -> None:
    judge = _Judge()
    wish = f"{WISH}, blend=more-diverse:control"
    assert judge(sign(SECRET, NOW, "user-1", wish)) == {
        "rank": "pyramid-vs-mgnm:treatment",
        "blend": "more-diverse:control",
    }


def test_no_header_is_no_wish_and_no_count() -> None:
    judge = _Judge()
    assert judge(None) is None
    assert judge.reasons == []


def test_signature_is_plain_hmac_that_any_language_can_make() -> None:
    text = f"{NOW}\nuser-1\n{WISH}".encode()
    assert signature(SECRET, NOW, "user-1", WISH) == hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()
    # Made with: printf '1765000000\nuser-1\nrank=pyramid-vs-mgnm:treatment' | openssl dgst -sha256 -hmac SECRET
    assert signature(SECRET, NOW, "user-1", WISH).startswith("920dd8790e5ee1a2")


def test_header_is_a_structured_field_dictionary() -> None:
    parsed: Any = http_sf.parse(sign(SECRET, NOW, "user-1", WISH).encode(), tltype="dictionary")
    token, parameters = parsed["rank"]
    assert str(token) == "pyramid-vs-mgnm:treatment"
    assert parameters["t"] == NOW
    assert parameters["s"] == signature(SECRET, NOW, "user-1", WISH)


@pytest.mark.parametrize("age", [0, 1, MAX_AGE_SECONDS, -MAX_SKEW_SECONDS])
def test_header_holds_within_its_time(age: int) -> None:
    assert _Judge()(sign(SECRET, NOW - age, "user-1", WISH)) is not None


@pytest.mark.parametrize("age", [MAX_AGE_SECONDS + 1, -MAX_SKEW_SECONDS - 1, NOW])
def test_header_of_another_time_is_expired(age: int) -> None:
    judge = _Judge()
    assert judge(sign(SECRET, NOW - age, "user-1", WISH)) is None
    assert judge.reasons == ["expired"]


def test_header_of_another_user_is_void() -> None:
    judge = _Judge()
    assert judge(sign(SECRET, NOW, "user-1", WISH), unit="user-2") is None
    assert judge.reasons == ["signature"]


def test_header_of_another_secret_is_void() -> None:
    judge = _Judge()
    assert judge(sign("guessed", NOW, "user-1", WISH)) is None
    assert judge.reasons == ["signature"]


def test_altered_wish_and_altered_time_are_void() -> None:
    judge = _Judge()
    signed = sign(SECRET, NOW, "user-1", WISH)
    assert judge(signed.replace("treatment", "control")) is None
    assert judge(signed.replace(str(NOW), str(NOW + 1))) is None
    assert judge.reasons == ["signature", "signature"]


@pytest.mark.parametrize("secret", [None, ""])
def test_without_a_secret_no_header_is_accepted(secret: str | None) -> None:
    judge = _Judge(secret)
    assert judge(sign(secret or "", NOW, "user-1", WISH)) is None
    assert judge.reasons == ["disabled"]


def test_experiment_file_must_allow_the_header() -> None:
    judge = _Judge(snapshot=_snapshot(header_enabled=False))
    assert judge(sign(SECRET, NOW, "user-1", WISH)) is None
    assert judge.reasons == ["disabled"]


@pytest.mark.parametrize(
    "wish",
    [
        "rank=pyramid-vs-mgnm:third",
        "rank=unheard-of:treatment",
        "blend=pyramid-vs-mgnm:treatment",
        "rank=stopped-one:control",
        f"{WISH}, blend=more-diverse:third",
    ],
)
def test_wish_for_an_arm_that_cannot_be_served_is_ignored_whole(wish: str) -> None:
    judge = _Judge()
    assert judge(sign(SECRET, NOW, "user-1", wish)) is None
    assert judge.reasons == ["unknown_arm"]


@pytest.mark.parametrize(
    "header",
    [
        "",
        WISH,
        f"{WISH};t={NOW}",
        f'{WISH};s="{"0" * 64}";t={NOW}',
        f'{WISH};t=-1;s="{"0" * 64}"',
        f'{WISH};t={"9" * 13};s="{"0" * 64}"',
        f'{WISH};t=१७६५;s="{"0" * 64}"',
        f'{WISH};t={NOW};s="{"0" * 63}"',
        f'{WISH};t={NOW};s="{"0" * 64}"\n',
        f'{WISH},{WISH};t={NOW};s="{"0" * 64}"',
        f'{", ".join([WISH] * 9)};t={NOW};s="{"0" * 64}"',
        "x" * 100_000,
    ],
)
def test_header_that_cannot_be_read_is_counted_as_malformed(header: str) -> None:
    judge = _Judge()
    assert judge(header) is None
    assert judge.reasons == ["malformed"]


def test_two_wishes_for_one_layer_are_malformed() -> None:
    judge = _Judge()
    assert judge(sign(SECRET, NOW, "user-1", f"{WISH}, rank=pyramid-vs-mgnm:control")) is None
    assert judge.reasons == ["malformed"]


def test_user_id_without_utf8_form_is_malformed() -> None:
    judge = _Judge()
    assert judge(sign(SECRET, NOW, "user-1", WISH), unit="\ud800") is None
    assert judge.reasons == ["malformed"]


@given(header=st.text(), unit=st.text())
def test_no_header_raises_or_is_granted_without_the_secret(header: str, unit: str) -> None:
    judge = _Judge()
    assert judge(header, unit) is None
    assert len(judge.reasons) == 1


@given(unit=st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_user_id_can_be_signed_for(unit: str) -> None:
    assert _Judge()(sign(SECRET, NOW, unit, WISH), unit) == {"rank": "pyramid-vs-mgnm:treatment"}


@pytest.mark.redis
@pytest.mark.anyio
@pytest.mark.usefixtures("warm_proofs")
async def test_service_serves_a_signed_wish_and_ignores_a_bad_one(redis_server: RedisServer, tmp_path: Path) -> None:
    for model in ("mgnm", "pyramid_mixer"):
        TinyModel(model=model).write(tmp_path / "bundles")
    write_current(tmp_path / "experiments.yaml", header_enabled=True)
    settings = Settings(
        redis=RedisSettings(url=SecretStr(redis_server.url)),
        bundles=BundlesSettings(root=tmp_path / "bundles"),
        experiments=ExperimentsSettings(file=tmp_path / "experiments.yaml", override_secret=SecretStr(SECRET)),
    )
    app = create_app(settings)
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://ranker") as client,
    ):

        async def rank(header: str) -> httpx.Response:
            body = {"user_id": "user-1", "candidates": ["i1", "i2"]}
            answer = await client.post("/rank", json=body, headers={"X-AB-Override": header})
            assert answer.status_code == 200
            return answer

        for arm, model in (("control", "mgnm@1"), ("treatment", "pyramid_mixer@1")):
            answer = await rank(sign(SECRET, int(time.time()), "user-1", f"rank=pyramid-vs-mgnm:{arm}"))
            assert answer.headers["x-ab-bucket"] == f"rank=pyramid-vs-mgnm:{arm};r=override"
            assert answer.headers["x-model"] == model
        refused = await rank(sign("guessed", int(time.time()), "user-1", WISH))
        assert refused.headers["x-ab-bucket"].endswith("r=split")
        metrics = (await client.get("/metrics")).text
    assert 'ranker_overrides_rejected_total{reason="signature"} 1.0' in metrics
    assert 'ranker_overrides_rejected_total{reason="expired"} 0.0' in metrics
