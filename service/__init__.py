"""The online ranker: behaviours from Redis, scores from ONNX bundles, and each user's experiment arm."""

__version__ = "2026.11.0"
