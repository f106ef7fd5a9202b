"""Several commands at once, with one bar each: the demo's trainings."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from deploy.processes import ROOT, check_ended


def run_side_by_side(commands: Mapping[str, Sequence[str]], console: Console) -> None:
    """Run `python -m PACKAGE ...` for each title; shows reported progress (JSON lines) as a bar with the time left.

    Raises:
        StepError: one of them failed; the others have been stopped.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  loss {task.fields[loss]:.3f}  {task.fields[rate]:,.0f} rows/s  left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        named: dict[subprocess.Popen[str], Sequence[str]] = {}
        running: list[tuple[subprocess.Popen[str], threading.Thread]] = []
        ended: queue.SimpleQueue[subprocess.Popen[str]] = queue.SimpleQueue()
        try:
            for title, arguments in commands.items():
                command = [sys.executable, "-m", *arguments]
                process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
                task = bars.add_task(title, total=None, loss=0.0, rate=0.0)
                follower = threading.Thread(target=_follow, args=(title, process, bars, task, ended))
                follower.start()
                running.append((process, follower))
                named[process] = arguments
            for _ in running:
                process = ended.get()
                process.wait()
                check_ended(named[process], process.returncode)
        finally:
            for process, follower in running:
                if process.poll() is None:
                    process.terminate()
                process.wait()
                follower.join()


def _follow(
    title: str,
    process: subprocess.Popen[str],
    bars: Progress,
    task: TaskID,
    ended: queue.SimpleQueue[subprocess.Popen[str]],
) -> None:
    assert process.stdout is not None
    with process.stdout:
        _show(title, process.stdout, bars, task)
    ended.put(process)


def _show(title: str, lines: IO[str], bars: Progress, task: TaskID) -> None:
    """Turn reports into the bar's state and print all other lines above the bars."""
    for line in lines:
        try:
            report = json.loads(line)
        except ValueError:
            shown = line.rstrip() if line.startswith(title) else f"{title}  {line.rstrip()}"
            bars.console.print(shown, highlight=False, markup=False, soft_wrap=True)
            continue
        state = {"total": report["total"], "completed": report["done"], "loss": report["loss"], "rate": report["rate"]}
        bars.update(task, refresh=True, **state)
    bars.update(task, visible=False)
