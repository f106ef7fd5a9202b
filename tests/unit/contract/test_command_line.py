"""How a command line ends: expected errors are one line and a status; a bug of this code keeps its traceback."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from contract.command_line import CommandError, run, without_login

ROOT = Path(__file__).resolve().parents[3]


def _raising(error: BaseException) -> int:
    raise error


def test_a_command_that_ends_well_gives_its_own_status() -> None:
    assert run("error", lambda: 3) == 3


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CommandError("the plan\n  has no rows"), "error: the plan has no rows"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.csv"), "error: a.csv: No such file or"),
        (OSError(errno.ENOSPC, "No space left on device", "a.npz"), "error: a.npz: No space left on device; make room"),
        (OSError("10 requested and 2 written"), "error: 10 requested and 2 written"),
    ],
)
def test_an_expected_error_is_one_line_that_says_what_to_do(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("error", lambda: _raising(error)) == 1
    said = capsys.readouterr().err
    assert said.startswith(line)
    assert said.count("\n") == 1


def test_the_last_words_of_another_program_stand_below_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo", lambda: _raising(CommandError("redis-server ended", "bind: in use\nbye"))) == 1
    assert capsys.readouterr().err == "demo: redis-server ended\nbind: in use\nbye\n"


def test_ctrl_c_is_a_status_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("error", lambda: _raising(KeyboardInterrupt()), stopped="stopped; go on later") == 130
    assert capsys.readouterr().err == "stopped; go on later\n"


@pytest.mark.parametrize("fault", [KeyError("x"), ValueError("x"), AttributeError("x")])
def test_a_fault_of_ours_is_not_hidden(fault: Exception) -> None:
    with pytest.raises(type(fault)):
        run("error", lambda: _raising(fault))


PRINTS = "import sys; from contract.command_line import run; sys.exit(run('error', lambda: print('x' * 200_000) or 0))"


@pytest.mark.parametrize(
    ("output", "words"), [("| true", "Broken pipe"), ("> /dev/full", "No space left"), (">&-", "")]
)
def test_an_output_that_cannot_be_written_is_one_line(output: str, words: str) -> None:
    command = f'set -o pipefail; "$0" -c "$1" {output}'
    ended = subprocess.run(
        ["bash", "-c", command, sys.executable, PRINTS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == (1 if words else 0)
    assert words in ended.stderr
    assert ended.stderr.count("\n") == (1 if words else 0)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("request to http://me:secret@host/api failed", "request to http://***@host/api failed"),
        ("http://a:b@h and https://c:d%40@i:1/x@2", "http://***@h and https://***@i:1/x@2"),
        ("http://me:s@cret@host/", "http://***@host/"),
        ("http://host/mgnm@7 and a@b", "http://host/mgnm@7 and a@b"),
    ],
)
def test_an_address_is_shown_without_its_login(text: str, shown: str) -> None:
    assert without_login(text) == shown
