"""Progress of a report on stderr: the stages, one after the other."""

from __future__ import annotations

from contract.progress import Progress


class Shown:
    """Takes the progress of `analysis.units.table.compute`."""

    def __init__(self, stages: int) -> None:
        self._names: list[str] = []
        self._stages, self._shown = stages, Progress("", stages)

    def __call__(self, stage: str, share: float) -> None:
        """Show how much of a stage is done, 0 to 1."""
        if stage not in self._names:
            self._names.append(stage)
        place = len(self._names)
        self._shown.at(place - 1 + share, title=f"{place}/{self._stages} {stage}")

    def end(self) -> None:
        """Clear the line."""
        self._shown.clear()
