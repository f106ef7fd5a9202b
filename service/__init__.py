"""The online ranker: reads behaviours from Redis, scores candidates with ONNX bundles, says who is in which arm."""

__version__ = "2026.11.0"
