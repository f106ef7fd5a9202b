"""Write the results for people: `peers.md`, `service.md`, pictures, and the marked sections of the README files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import SERVING
from benchmarks.report import bars, peers, picture, service
from deploy.processes import ROOT

Document = Mapping[str, Any]  # Any: JSON
_PEERS, _SERVICE = "peers.json", "service.json"
PAGES: Final = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")


def refresh(folder: Path = SERVING) -> None:
    """Write what follows from the JSON files of a folder; the README files only follow the committed results."""
    peer_document, service_document = (_read(folder / name) for name in (_PEERS, _SERVICE))
    sections = sections_of(folder)
    if peer_document:
        (folder / "peers.md").write_text(_page(peers.page(peer_document)), encoding="utf-8")
        picture.of_peers(peer_document, folder / "peers.png")
    if service_document:
        (folder / "service.md").write_text(_page(service.page(service_document)), encoding="utf-8")
        picture.of_service(service_document, folder / "service.png")
    (folder / "bars.md").write_text(_page(["# Bars", "", *sections["bars"]]), encoding="utf-8")
    if folder.resolve() == SERVING.resolve():
        for page in PAGES:
            page.write_text(filled(page.read_text(encoding="utf-8"), sections), encoding="utf-8")


def sections_of(folder: Path) -> dict[str, list[str]]:
    """Return the lines of each section of the README files; what was not measured has none."""
    peer_document, service_document = (_read(folder / name) for name in (_PEERS, _SERVICE))
    found = {}
    if peer_document:
        found["peers"] = peers.table(peer_document)
    if service_document:
        found["service"] = service.summary(service_document)
    measured = [*(bars.of_peers(peer_document) if peer_document else []), *bars.of_service(service_document)]
    return {**found, "bars": bars.table(measured)}


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
