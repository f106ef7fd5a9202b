"""Ranks candidates with the typed client (pip install ./client): python client/examples/rank.py URL."""

import sys

from ranker_client import RankerClient

with RankerClient(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000", budget=2.0) as ranker:
    ranking = ranker.rank("42", ["50", "181", "no-such-film"])
    print(ranking.bucket)
    print(ranking.item_ids)
