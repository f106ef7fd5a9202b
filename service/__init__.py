"""The online ranker: behaviours from Redis, scores from ONNX bundles, and each user's experiment arm."""

import os

from contract import usage_reports

__version__ = "2026.11.0"

usage_reports.turn_off()

# The BLAS of numpy starts a thread for each further core, and each spins for 30 ms or more before it sleeps: when a
# service starts or tries a bundle, rankings would wait. Nothing here multiplies large matrices.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # noqa: TID251 - for numpy, not a setting
