"""The model's own cost: a loop around the two graphs in one process, with neither HTTP nor Redis nor JSON.

Prints JSON: microseconds of processor time a user, by batch size, with and without encoding.
"""

import json
import sys
import time

import numpy as np
from ranking import Ranking

CANDIDATES = 200


def microseconds(run, users: int, seconds: float) -> float:
    """Return the processor time of one user, in us."""
    for _ in range(20):
        run()
    began, cpu, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds:
        run()
        count += 1
    return 1e6 * (time.process_time() - cpu) / (count * users)


def main(seconds: float) -> None:
    ranking, draw, found = Ranking(), np.random.default_rng(1), {}
    for users in (1, 8, 32):
        items = draw.integers(1, len(ranking.ids), (users, ranking.length))
        candidates = draw.integers(1, len(ranking.ids), users * CANDIDATES)
        rows = np.repeat(np.arange(users), CANDIDATES)
        state = dict(zip(ranking.encoded, ranking.encode.run(None, {"items": items}), strict=True))
        inputs = {name: state[name] for name in ranking.state} | {"candidates": candidates, "rows": rows}

        def encode(items=items):
            ranking.encode.run(None, {"items": items})

        def score(inputs=inputs):
            ranking.score.run(["scores"], inputs)

        found[f"encode_{users}"] = microseconds(encode, users, seconds)
        found[f"score_{users}"] = microseconds(score, users, seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    main(float(sys.argv[1]))
