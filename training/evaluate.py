"""Full ranking: every item is a candidate for every query, items of the history included, for all models alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.base import SequentialRecommender
from training.loader import Loader, as_tensors
from training.metrics import Counts, Floats, better_and_equal, hit_rate, mrr, ndcg

METRICS: Final[dict[str, tuple[Callable[[Counts, Counts, int], Floats], int]]] = {
    "hr@10": (hit_rate, 10),
    "ndcg@10": (ndcg, 10),
    "mrr@20": (mrr, 20),
}
MAIN: Final = "ndcg@10"
"""What chooses the model, on validation."""

_CELLS: Final = 2_000_000  # scores computed at once: bounds the memory, whatever the catalogue


@torch.no_grad()
def query_metrics(model: SequentialRecommender, loader: Loader) -> dict[str, Floats]:
    """Return every metric of every row, (N,) each.

    Raises:
        MetricsError: a score is NaN or infinite.
    """
    model.eval()
    device = next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))
    size = max(1, min(512, _CELLS // (model.item_count + 1)))
    found = [_ranks(model, loader, chosen, device) for chosen in _pieces(len(loader), size)]
    g = np.concatenate([one for one, _ in found] or [np.zeros(0, dtype=np.int64)])
    e = np.concatenate([one for _, one in found] or [np.zeros(0, dtype=np.int64)])
    return {name: metric(g, e, k) for name, (metric, k) in METRICS.items()}


def means(metrics: dict[str, Floats]) -> dict[str, float]:
    """Return the mean of every metric over its queries; 0 where there are none."""
    return {name: float(values.mean()) if len(values) else 0.0 for name, values in metrics.items()}


def _ranks(
    model: SequentialRecommender, loader: Loader, chosen: NDArray[np.int64], device: torch.device
) -> tuple[Counts, Counts]:
    inputs = {name: tensor.to(device) for name, tensor in as_tensors(loader.inputs(chosen)).items()}
    scores = model.score_all(model.encode(inputs).state)[:, 1:].float().cpu().numpy()  # column 0 is padding
    return better_and_equal(scores, loader.targets(chosen) - 1)


def _pieces(count: int, size: int) -> list[NDArray[np.int64]]:
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]
