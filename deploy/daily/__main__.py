"""`python -m deploy.daily [FILE.toml] [--day DATE]`: one JSON line, and a status that a scheduler understands.

| Status | Means |
| --- | --- |
| 0 | promoted, now or by an earlier call of the same day |
| 1 | failed; the next call goes on with the step that failed |
| 2 | the command line is wrong |
| 3 | refused: the bundle in force stays; the line has the reason |
| 4 | another call is running |
"""

from __future__ import annotations

import json
import sys

from contract.command_line import run, say
from deploy.daily.commands import Processes
from deploy.daily.loop import BUSY, run_day
from deploy.daily.progress import Shown, expected_seconds, is_watched
from deploy.daily.settings import parse
from deploy.daily.state import BusyError, Days
from deploy.daily.steps import STEPS


def main(arguments: list[str] | None = None) -> int:
    """Run a day; returns the exit status."""
    return run("daily", lambda: _day(arguments))


def _day(arguments: list[str] | None) -> int:
    settings, call = parse(arguments)
    days = Days(settings.state / settings.track)
    try:
        with days.locked():
            log, steps = days.folder / "log.jsonl", list(STEPS)
            with Shown(steps, expected_seconds(log, steps), quiet=not is_watched()) as shown:
                run = Processes(days.folder / f"{call.day.isoformat()}.log", shown.tick)
                line, status = run_day(settings, call, days, run, shown.step)
            text = json.dumps({"track": settings.track, **line}, ensure_ascii=False)
            with log.open("a", encoding="utf-8") as file:
                file.write(text + "\n")
    except BusyError as error:
        say(f"daily: {error}")
        return BUSY
    print(text)
    return status


if __name__ == "__main__":
    sys.exit(main())
