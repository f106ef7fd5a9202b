"""Settings: what is unknown or unfit stops the start, and no secret is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from service.settings.access import AccessSettings
from service.settings.admin import AdminSettings
from service.settings.bundles import BundlesSettings
from service.settings.environment import SettingsError, load_settings, variables
from service.settings.experiments import ExperimentsSettings
from service.settings.group import Group
from service.settings.http import HttpSettings
from service.settings.limits import LimitsSettings
from service.settings.page import PageSettings
from service.settings.ranking_log import RankingLogSettings
from service.settings.redis import RedisSettings
from service.settings.root import Settings
from service.settings.shown import effective
from service.settings.streams import StreamsSettings
from service.settings.unsafe import warnings

pytestmark = pytest.mark.usefixtures("no_settings")

SAFE = Settings(
    access=AccessSettings(file=Path("access.yaml")),
    http=HttpSettings(docs_enabled=False),
    bundles=BundlesSettings(signers=Path("signers")),
)


def test_every_setting_has_a_default() -> None:
    assert load_settings() == Settings()


def test_a_variable_sets_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKER_HTTP__PORT", "9000")
    monkeypatch.setenv("ranker_inference__warm_up_rows", "[1,4]")
    settings = load_settings()
    assert (settings.http.port, settings.inference.warm_up_rows) == (9000, (1, 4))


def test_an_empty_variable_is_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKER_EXPERIMENTS__FILE", "")
    assert load_settings().experiments.file is None


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("RANKER_HTP__PORT", "RANKER_HTTP__PORT"),
        ("RANKER_HTTP__PROT", "RANKER_HTTP__PORT"),
        ("RANKER_HTTP_PORT", "RANKER_HTTP__PORT"),
        ("RANKER_HTTP__PORT__NUMBER", "RANKER_HTTP__PORT"),
        ("RANKER_HTTP", ""),
        ("RANKER_", ""),
        ("ranker_redis__ulr", "RANKER_REDIS__URL"),
    ],
)
def test_an_unknown_name_is_refused_at_any_level_and_named(
    monkeypatch: pytest.MonkeyPatch, name: str, near: str
) -> None:
    monkeypatch.setenv(name, "a-secret-value")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    [problem] = caught.value.problems
    assert problem.startswith(f"{name}: unknown setting")
    assert near in problem
    assert "a-secret-value" not in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RANKER_DATA", "/data"),
        ("RANKER_SINK__BATCH_ROWS", "9"),
        ("RANKER_PORT", "8000"),
        ("RANKER_PORT", "tcp://10.0.0.1:8000"),
        ("RANKER_SERVICE_HOST", "10.0.0.1"),
        ("RANKER_SERVICE_PORT_HTTP", "8000"),
        ("RANKER_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("RANKER_REDIS_PORT", "tcp://10.0.0.1:6379"),
    ],
)
def test_what_compose_and_kubernetes_set_is_no_setting_of_ours(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RANKER_HTTP__PORT", "eighty"),
        ("RANKER_HTTP__PORT", "65536"),
        ("RANKER_LIMITS__MAX_CANDIDATES", "0"),
        ("RANKER_REDIS__READ_TIMEOUT_MS", "-1"),
        ("RANKER_INFERENCE__PROVIDER", "tpu"),
        ("RANKER_PAGE__ENABLED", "perhaps"),
        ("RANKER_LOGGING__LEVEL", "loud"),
    ],
)
def test_a_value_that_cannot_be_used_names_its_variable_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    [problem] = caught.value.problems
    assert problem.startswith(f"{name}: ")
    assert repr(value) not in problem


def test_lists_that_are_no_json_are_named_with_how_lists_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKER_INFERENCE__WARM_UP_ROWS", "1,2")
    monkeypatch.setenv("RANKER_HTTP__CORS_ORIGINS", "[")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert caught.value.problems == [
        f"RANKER_{name}: write a list as JSON, for example [1,8]"
        for name in ("HTTP__CORS_ORIGINS", "INFERENCE__WARM_UP_ROWS")
    ]


def test_all_problems_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKER_HTTP__PORT", "x")
    monkeypatch.setenv("RANKER_LIMITS__MAX_RECENT", "x")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert len(caught.value.problems) == 2


def test_settings_never_change() -> None:
    with pytest.raises(ValidationError):
        Settings().http.port = 1  # type: ignore[misc]


def test_secrets_are_shown_nowhere() -> None:
    settings = Settings(
        redis=RedisSettings(url=SecretStr("rediss://me:hunter2@cache.example:6380/1?password=hunter2")),
        experiments=ExperimentsSettings(override_secret=SecretStr("hunter2" * 5), pseudonym_key=SecretStr("hunter2")),
    )
    shown = effective(settings)
    assert "hunter2" not in repr(settings) + str(settings) + str(shown) + settings.model_dump_json()
    assert shown["RANKER_REDIS__URL"] == "rediss://***@cache.example:6380/1"
    assert shown["RANKER_EXPERIMENTS__OVERRIDE_SECRET"] == "***"


@pytest.mark.parametrize(
    "url", ["http://user:hunter2@host", "redis+sentinel://hunter2", "hunter2", "redis://:hunter2/"]
)
def test_a_redis_url_that_does_not_parse_is_refused_and_never_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("RANKER_REDIS__URL", url)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    [problem] = caught.value.problems
    assert problem.startswith("RANKER_REDIS__URL: ")
    assert "hunter2" not in problem
    monkeypatch.delenv("RANKER_REDIS__URL")
    unchecked = Settings().model_copy(update={"redis": RedisSettings.model_construct(url=SecretStr(url))})
    assert effective(unchecked)["RANKER_REDIS__URL"] == "***"


def test_a_secret_that_looks_like_a_url_is_not_shown_as_one() -> None:
    settings = Settings(experiments=ExperimentsSettings(override_secret=SecretStr("redis://hunter2/0" * 2)))
    assert effective(settings)["RANKER_EXPERIMENTS__OVERRIDE_SECRET"] == "***"


def test_tls_without_verification_is_a_warning() -> None:
    url = SecretStr("rediss://:hunter2@h/0?ssl_cert_reqs=none")
    [warning] = warnings(SAFE.model_copy(update={"redis": RedisSettings(url=url)}))
    assert warning.startswith("RANKER_REDIS__URL: ssl_cert_reqs=none")
    assert warnings(SAFE) == []


@pytest.mark.parametrize(
    ("variable", "unsafe"),
    [
        ("RANKER_ACCESS__FILE", {"access": AccessSettings()}),
        ("RANKER_BUNDLES__SIGNERS", {"bundles": BundlesSettings()}),
        (
            "RANKER_ACCESS__ON_ADMIN_PORT",
            {
                "access": AccessSettings(file=Path("access.yaml"), on_admin_port=False),
                "admin": AdminSettings(port=8001),
            },
        ),
        ("RANKER_LIMITS__DEADLINE_MS", {"limits": LimitsSettings(deadline_ms=2_001)}),
        ("RANKER_PAGE__ENABLED", {"page": PageSettings(enabled=True)}),
        ("RANKER_HTTP__DOCS_ENABLED", {"http": HttpSettings(docs_enabled=True)}),
        ("RANKER_HTTP__BEHAVIOURS_ENABLED", {"http": HttpSettings(docs_enabled=False, behaviours_enabled=True)}),
        (
            "RANKER_EXPERIMENTS__PSEUDONYM_KEY",
            {"experiments": ExperimentsSettings(pseudonym_key=SecretStr("too short"))},
        ),
    ],
)
def test_every_unsafe_choice_is_one_warning_with_its_variable(variable: str, unsafe: dict[str, Group]) -> None:
    [warning] = warnings(SAFE.model_copy(update=unsafe))
    assert warning.startswith(f"{variable}: ")
    assert "too short" not in warning


def test_a_short_override_secret_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a secret that can be guessed, every caller could choose its users' arms."""
    monkeypatch.setenv("RANKER_EXPERIMENTS__OVERRIDE_SECRET", "a" * 31)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    [problem] = caught.value.problems
    assert problem.startswith("RANKER_EXPERIMENTS__OVERRIDE_SECRET: shorter than 32 characters")
    assert "aaa" not in problem
    monkeypatch.setenv("RANKER_EXPERIMENTS__OVERRIDE_SECRET", "a" * 32)
    assert load_settings().experiments.override_secret is not None


def test_a_ranking_log_without_streams_is_a_warning() -> None:
    log = RankingLogSettings(share=0.1)
    [warning] = warnings(SAFE.model_copy(update={"ranking_log": log, "streams": StreamsSettings(enabled=False)}))
    assert warning.startswith("RANKER_RANKING_LOG__SHARE: nothing is logged")
    assert warnings(SAFE.model_copy(update={"ranking_log": log})) == []


@pytest.mark.parametrize("prefix", ["a{b}", "blank here", "star*", "[x]", "a" * 65, "new\nline", "ü:"])
def test_a_prefix_that_could_move_keys_or_match_others_is_refused(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    monkeypatch.setenv("RANKER_REDIS__PREFIX", prefix)
    with pytest.raises(SettingsError, match="RANKER_REDIS__PREFIX"):
        load_settings()


def test_every_setting_is_described() -> None:
    assert [name for name, field in variables() if not field.description] == []


def test_every_duration_says_its_unit_in_its_name_and_its_description() -> None:
    for name, field in variables():
        for ending, unit in (("_MS", "(ms)"), ("_S", "(s)")):
            assert name.endswith(ending) == (unit in field.description), name
