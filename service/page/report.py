"""The latest report of an experiment: one HTML file of the analysis, named by a setting, and the page's link to it.

The file is read at each request, so the next report replaces it without a restart. It is shown without scripts and
without any other resource, for any content.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Response

from service.errors import NotFound

MAX_BYTES: Final = 4 * 1024 * 1024
LINK: Final = b'<p class="report"><a href="page/report">The latest report of an experiment</a></p>'
PLACE: Final = b"<!-- report -->"  # in index.html
REPORT_HEADERS: Final = {
    # The report's style and pictures are inside the file. `sandbox` also gives it an origin of its own.
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; sandbox"
    ),
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}


def report_router(path: Path) -> APIRouter:
    """Return the route of the report.

    Args:
        path: the file; it need not exist yet.
    """
    router = APIRouter(include_in_schema=False)

    @router.get("/page/report")
    async def report() -> Response:
        content = await asyncio.to_thread(_read, path)
        return Response(content, media_type="text/html; charset=utf-8", headers=REPORT_HEADERS)

    return router


def _read(path: Path) -> bytes:
    """Return the report.

    Raises:
        NotFound: there is none yet, or the file is too large to be one.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise NotFound("There is no report.") from error
    if len(content) > MAX_BYTES:
        raise NotFound("The report is too large to be shown.")
    return content
