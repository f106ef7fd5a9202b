"""The promotions of tracks, as this replica reads them beside its bundles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from contract.bundle.tracks import TrackError, read_track
from service.experiments.audit import Audit

RETRY_SECONDS: Final = 60.0
"""The wait before a promotion that could not be served is tried again."""


class Tracks:
    """Reads the track files.

    Args:
        bundles: the folder of bundles; None for a service without tracks.
        audit: logs a damaged file once.
        clock: seconds.
    """

    def __init__(self, bundles: Path | None, audit: Audit, clock: Callable[[], float] = time.monotonic) -> None:
        self._bundles, self._audit, self._clock = bundles, audit, clock
        self._refused: dict[tuple[str, str], float] = {}

    def promoted(self, tracks: Iterable[str]) -> dict[str, str]:
        """Return the promoted version of each track, `model/track`; a track without one, or damaged, is left out."""
        found = {track: self._version(track) for track in sorted(tracks)}
        return {track: version for track, version in found.items() if version}

    def refuse(self, track: str, version: str) -> None:
        """Do not try a promotion that cannot be served for a while."""
        self._refused[track, version] = self._clock()

    def may_move(self, track: str, version: str) -> bool:
        """Return whether a promotion was not refused just now."""
        refused = self._refused.get((track, version))
        return refused is None or self._clock() - refused >= RETRY_SECONDS

    def _version(self, track: str) -> str:
        model, _, name = track.partition("/")
        if self._bundles is None:
            return ""
        try:
            found = read_track(self._bundles, model, name)
        except TrackError as error:
            self._audit.trouble("track_unreadable", track.encode(), track=track, problems=(str(error),))
            return ""
        return found.version if found is not None else ""
