"""The largest value of each bucket of the histograms."""

from __future__ import annotations

from typing import Final

# 0.2 ms to 2 s, dense about a deadline of 20 ms.
LATENCY: Final = (
    0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0,
)  # fmt: skip
ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128)
CANDIDATES: Final = (1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
BATCH_CANDIDATES: Final = (10, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
# Differences between the scores of two bundles, without their sign.
DIFFERENCES: Final = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
