"""Write the results for people: `peers.md`, `service.md`, pictures, and the marked sections of the README files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.load.world import RESULTS
from benchmarks.report import bars, peers, picture, service
from deploy.processes import ROOT

Document = Mapping[str, Any]  # Any: JSON
PAGES: Final = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")


def refresh(folder: Path = RESULTS) -> None:
    """Write what follows from the JSON files of a folder; the README files only follow the committed results."""
    documents = {name: _read(folder / f"{name}.json") for name in ("peers", "service")}
    sections: dict[str, list[str]] = {}
    if documents["peers"]:
        sections["peers"] = peers.table(documents["peers"])
        (folder / "peers.md").write_text(_page(peers.page(documents["peers"])), encoding="utf-8")
        picture.of_peers(documents["peers"], folder / "peers.png")
    if documents["service"]:
        sections["service"] = service.summary(documents["service"])
        (folder / "service.md").write_text(_page(service.page(documents["service"])), encoding="utf-8")
        picture.of_service(documents["service"], folder / "service.png")
    sections["bars"] = bars.table(
        [
            *(bars.of_peers(documents["peers"]) if documents["peers"] else []),
            *(bars.of_service(documents["service"]) if documents["service"] else []),
        ]
    )
    (folder / "bars.md").write_text(_page(["# Bars", "", *sections["bars"]]), encoding="utf-8")
    if folder.resolve() == RESULTS.resolve():
        for page in PAGES:
            page.write_text(filled(page.read_text(encoding="utf-8"), sections), encoding="utf-8")


def filled(text: str, sections: Mapping[str, Sequence[str]]) -> str:
    """Return a page whose marked sections, `<!-- speed: NAME -->` to `<!-- /speed -->`, have these lines."""

    def section(found: re.Match[str]) -> str:
        name = found[1]
        lines = sections.get(name)
        return found[0] if lines is None else "\n".join([f"<!-- speed: {name} -->", *lines, "<!-- /speed -->"])

    return re.sub(r"<!-- speed: (\w+) -->\n.*?<!-- /speed -->", section, text, flags=re.S)


def _page(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"


def _read(path: Path) -> Document:
    document: Document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return document
