"""One run of a bundle's graphs over the requests of a batch, as its requests' traces show it."""

from __future__ import annotations


class ModelRun:
    """One run.

    Args:
        bundle: name of the bundle.
        rows: requests of the batch.
        began: by `time.perf_counter`.
        encode_seconds: of the states that were not cached.
        score_seconds: of all candidates.
    """

    __slots__ = ("began", "bundle", "encode_seconds", "rows", "score_seconds", "span")

    def __init__(self, bundle: str, rows: int, began: float, encode_seconds: float, score_seconds: float) -> None:
        self.bundle, self.rows, self.began = bundle, rows, began
        self.encode_seconds, self.score_seconds = encode_seconds, score_seconds
        self.span: object = None  # its span's context, once a traced request has made it
