"""TensorBoard: an events file in the run's folder. Needs the extra `tensorboard`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from training.fitting.fit import Epoch
from training.reporting.reporter import Ending, Training

FOLDER: Final = "tensorboard"


class TensorBoard:
    """Writes loss, validation and speed per epoch, the recipe as text, and the test metrics."""

    name: ClassVar[str] = "TensorBoard"
    required: ClassVar[bool] = False

    def begin(self, training: Training) -> None:
        """See `Reporter`."""
        from torch.utils.tensorboard import SummaryWriter  # takes a second or two, and needs the extra

        folder = training.folder / FOLDER
        self._resumed = folder.exists()
        self._metric, self._last = training.metric, 0
        self._writer = SummaryWriter(str(folder))
        if not self._resumed:
            self._writer.add_text("recipe", f"```json\n{training.recipe.model_dump_json(indent=2)}\n```")

    def epoch(self, epochs: Sequence[Epoch]) -> None:
        """See `Reporter`."""
        for epoch in epochs[-1:] if self._resumed else epochs[self._last :]:
            for name, value in scalars(epoch, self._metric).items():
                self._writer.add_scalar(name, value, epoch.epoch)
        self._last = len(epochs)
        self._writer.flush()

    def end(self, ending: Ending, metrics: Mapping[str, float]) -> None:
        """See `Reporter`."""
        for name, value in metrics.items():
            self._writer.add_scalar(f"test/{name}", value, self._last)
        self._writer.close()


def scalars(epoch: Epoch, metric: str) -> dict[str, float]:
    """Return the numbers of an epoch by name."""
    found = {"loss": epoch.loss, "rows_per_second": epoch.rows_per_second}
    return found if epoch.valid_score is None else found | {f"valid/{metric}": epoch.valid_score}
