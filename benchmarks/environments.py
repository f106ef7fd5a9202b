"""Virtual environments made from pinned requirements: `.bench/<name>`, which git ignores."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Final

from contract.command_line import CommandError
from deploy.processes import ROOT

FOLDER: Final = ROOT / ".bench"
_MARK: Final = "requirements.sha256"  # written last: the environment is complete, and of these requirements
_LAST_LINES: Final = 8


def environment(name: str, pins: Path) -> Path:
    """Return the `bin` folder of an environment; it is made if it is missing or of other requirements.

    Raises:
        CommandError: pip could not install it; the details are its last lines.
    """
    digest = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()
    folder = FOLDER / name
    mark = folder / _MARK
    if not mark.exists() or mark.read_text() != digest:
        print(f"{name}: making its environment from {pins.relative_to(ROOT)}", flush=True)
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run(
            [
                str(folder / "bin" / "python"),
                "-m",
                "pip",
                "install",
                "-q",
                "--disable-pip-version-check",
                "-r",
                str(pins),
            ]
        )
        mark.write_text(digest)
    return folder / "bin"


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()[-_LAST_LINES:]
        raise CommandError(f"{command[0]} {' '.join(command[1:3])} failed", "\n".join(lines))
