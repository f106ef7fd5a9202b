"""curves.png: loss and validation by epoch, the chosen epoch marked. Needs matplotlib, of the extra `analysis`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from training.fitting.fit import Epoch
from training.reporting import look
from training.reporting.reporter import Ending, Training

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURE: Final = "curves.png"


class Curves:
    """Draws the picture when the training ends, whichever way; fewer than two epochs have no curve."""

    name: ClassVar[str] = "curves.png"
    required: ClassVar[bool] = False

    def begin(self, training: Training) -> None:
        """See `Reporter`."""
        self._training, self._epochs = training, list[Epoch]()

    def epoch(self, epochs: Sequence[Epoch]) -> None:
        """See `Reporter`."""
        self._epochs = list(epochs)

    def end(self, ending: Ending, metrics: Mapping[str, float]) -> None:
        """See `Reporter`."""
        if len(self._epochs) > 1:
            look.save(figure_of(self._epochs, self._training), self._training.folder / PICTURE)


def figure_of(epochs: Sequence[Epoch], training: Training) -> Figure:
    """Return the picture of a run."""
    from matplotlib.figure import Figure  # takes a second, and needs an extra

    validated = [epoch for epoch in epochs if epoch.valid_score is not None]
    figure = Figure(figsize=(7.5, 5.6 if validated else 3.4), dpi=100, layout="constrained")
    recipe = training.recipe
    look.title(figure, f"{recipe.found().name} on {recipe.dataset}: loss and validation by epoch", training.folder.name)
    axes = list(figure.subplots(2 if validated else 1, 1, sharex=True, squeeze=False)[:, 0])
    _curve(axes[0], epochs, [epoch.loss for epoch in epochs], "training loss, mean per row", look.BROWN)
    if validated:
        scores = [float(epoch.valid_score or 0.0) for epoch in validated]
        _curve(axes[1], validated, scores, f"validation: {look.in_words(training.metric)}", look.BLUE)
        _mark(axes, validated, scores)
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    return figure


def _curve(axes: Axes, epochs: Sequence[Epoch], values: Sequence[float], label: str, colour: str) -> None:
    axes.plot([epoch.epoch for epoch in epochs], values, "o-", color=colour, markersize=4, linewidth=1.6)
    axes.set_title(label, loc="left", fontsize=10)
    look.plain(axes)


def _mark(axes: Sequence[Axes], validated: Sequence[Epoch], scores: Sequence[float]) -> None:
    """Mark the epoch whose weights the run keeps: the last one that was better than all before."""
    place = max(place for place, epoch in enumerate(validated) if epoch.best)
    chosen = validated[place].epoch
    for one in axes:
        one.axvline(chosen, color=look.RED, linestyle="--", linewidth=1)
    axes[-1].plot([chosen], [scores[place]], "o", color=look.RED, markersize=8)
    axes[0].set_title(
        f"chosen: epoch {chosen}, validation {scores[place]:.4f}", loc="right", fontsize=10, color=look.RED
    )
