"""The settings of the daily loop."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from deploy.daily.settings import SettingsError, parse

FILE = 'log = "news.csv"\nrecipe = "recipe.toml"\ntrack = "hourly"\ncore = 2\nprepare = ["--skip-bad-lines"]\n'


def test_flags_override_the_file(tmp_path: Path) -> None:
    (tmp_path / "daily.toml").write_text(FILE)
    settings, call = parse([str(tmp_path / "daily.toml"), "--core", "3", "--day", "2025-03-06", "--scratch"])
    assert (settings.log, settings.track, settings.core) == (Path("news.csv"), "hourly", 3)
    assert settings.prepare == ("--skip-bad-lines",)
    assert (call.day, call.scratch, call.force) == (date(2025, 3, 6), True, False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('log = "x"\n', "recipe: Field required"),
        (FILE + "tolerence = 0.1\n", "tolerence: Extra inputs"),
        (FILE.replace("hourly", "../x"), "track: String should match"),
        (FILE.replace("core = 2", "core = 0"), "core: Input should be greater"),
        ("log = \n", r"daily\.toml: Invalid value"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "daily.toml").write_text(text)
    with pytest.raises(SettingsError, match=words):
        parse([str(tmp_path / "daily.toml")])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: No such file"):
        parse([str(tmp_path / "none.toml")])
