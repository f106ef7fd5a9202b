"""Every secret setting may come from a file, and none is ever shown."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from analysis.sink import settings as sink
from contract.command_line import CommandError
from service.app import serving
from service.command_line import main
from service.experiments.overrides import Overrides
from service.settings.environment import SettingsError, load_settings, secret_variables, variables
from service.settings.root import DELIMITER, PREFIX, Settings

pytestmark = pytest.mark.usefixtures("no_settings")

CANARY = "canary-2f6c1d"
URLS = "_URL"  # a secret of this ending is a Redis URL


def value_of(name: str) -> str:
    """Return a valid value with the canary in it."""
    return f"redis://user:{CANARY}@127.0.0.1:6379/0" if name.endswith(URLS) else CANARY * 3


def setting(settings: Settings, name: str) -> object:
    section, _, field = name.removeprefix(PREFIX).lower().partition(DELIMITER)
    return getattr(getattr(settings, section), field)


@pytest.fixture(params=secret_variables())
def name(request: pytest.FixtureRequest) -> str:
    """Each secret setting."""
    return str(request.param)


@pytest.fixture
def file(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the setting."""
    path = tmp_path / "secret"
    path.write_text(value_of(name) + "\n")
    monkeypatch.setenv(f"{name}_FILE", str(path))
    return path


def test_the_walk_finds_the_secrets() -> None:
    assert set(secret_variables()) >= {
        "RANKER_REDIS__URL",
        "RANKER_STREAMS__URL",
        "RANKER_EXPERIMENTS__OVERRIDE_SECRET",
        "RANKER_EXPERIMENTS__PSEUDONYM_KEY",
    }


def test_a_setting_with_the_name_of_a_secret_is_one() -> None:
    """A password in a plain string would be printed with the settings."""
    words = ("SECRET", "PASSWORD", "TOKEN", "_KEY", "CREDENTIAL", "HEADERS")
    named = {name for name, _ in variables() if any(word in name for word in words)}
    assert named - set(secret_variables()) == set()


def test_a_secret_comes_from_a_file_without_its_line_end(name: str, file: Path) -> None:
    found = setting(load_settings(), name)
    assert isinstance(found, SecretStr)
    assert found.get_secret_value() == value_of(name)


def test_other_settings_of_the_section_still_come_from_variables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text(value_of("RANKER_REDIS__URL"))
    monkeypatch.setenv("ranker_redis__url_file", str(tmp_path / "url"))
    monkeypatch.setenv("RANKER_REDIS__READ_TIMEOUT_MS", "7")
    redis = load_settings().redis
    assert (redis.read_timeout_ms, redis.url.get_secret_value()) == (7, value_of("RANKER_REDIS__URL"))


def test_a_secret_given_twice_is_refused(name: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value_of(name))
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert caught.value.problems == [f"{name}_FILE: {name} is set too; set one of them"]
    monkeypatch.setenv(name, "")  # an empty variable is none at all
    assert setting(load_settings(), name)


def test_no_secret_is_shown(name: str, file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = load_settings()
    assert main(["--check-settings"]) == 0
    shown = "".join(capfd.readouterr()) + repr(settings) + str(settings) + settings.model_dump_json()
    assert CANARY not in shown
    assert name in shown


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\n"),
        lambda path: path.write_bytes(b"\xff\xfe" + CANARY.encode()),
        lambda path: path.write_bytes(CANARY.encode() * 10_000),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: path.write_text(f"http://{CANARY}@host"),
    ],
    ids=["missing", "empty", "only a line end", "binary", "too large", "a folder", "another address"],
)
def test_a_file_that_cannot_be_used_is_refused_without_its_content(
    spoil: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / CANARY  # a person who confuses NAME_FILE and NAME puts the secret here
    path.touch()
    spoil(path)
    monkeypatch.setenv("RANKER_REDIS__URL_FILE", str(path))
    with pytest.raises(SettingsError) as caught:
        load_settings()
    [problem] = caught.value.problems
    assert problem.startswith("RANKER_REDIS__URL_FILE: ")
    assert CANARY not in problem


def test_only_secrets_come_from_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKER_HTTP__PORT_FILE", "/etc/hostname")
    with pytest.raises(SettingsError, match="RANKER_HTTP__PORT_FILE: unknown setting"):
        load_settings()


def test_the_override_secret_changes_with_its_file_on_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, overrides = tmp_path / "secret", Overrides("first" * 8, lambda _reason: None)
    serving._use_new_secret(overrides)  # from no file: nothing changes
    assert overrides._secret == "first" * 8
    path.write_text("second" * 8)
    monkeypatch.setenv("RANKER_EXPERIMENTS__OVERRIDE_SECRET_FILE", str(path))
    serving._use_new_secret(overrides)
    assert overrides._secret == "second" * 8
    path.write_text("")
    with capture_logs() as lines:
        serving._use_new_secret(overrides)
    assert overrides._secret == "second" * 8
    assert [line["event"] for line in lines] == ["secret_refused"]
    assert "second" not in json.dumps(lines)


def test_the_url_of_the_sink_comes_from_a_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "url"
    path.write_text(value_of("RANKER_SINK__URL") + "\n")
    monkeypatch.setenv("RANKER_SINK__URL_FILE", str(path))
    nothing = argparse.Namespace()
    assert sink.load(nothing).url.get_secret_value() == value_of("RANKER_SINK__URL")
    assert CANARY not in repr(sink.load(nothing))
    flag = argparse.Namespace(url="redis://elsewhere:6379/0")
    assert sink.load(flag).url.get_secret_value() == "redis://elsewhere:6379/0"
    monkeypatch.setenv("RANKER_SINK__URL", value_of("RANKER_SINK__URL"))
    with pytest.raises(CommandError, match="RANKER_SINK__URL_FILE: RANKER_SINK__URL is set too"):
        sink.load(nothing)
