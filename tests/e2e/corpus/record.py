"""Records the corpus from the service as it is now: `python -m tests.e2e.corpus.record`.

`git diff --word-diff tests/e2e/corpus/answers` then shows what changed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.e2e.corpus import bodies, connections, rankings, routes, states
from tests.e2e.corpus.case import Case
from tests.e2e.corpus.recorded import ANSWERS
from tests.e2e.corpus.replay import Replay, Result
from tests.e2e.corpus.rig import running

GROUPS = {"rankings": rankings, "bodies": bodies, "connections": connections, "routes": routes}


def main() -> None:
    """Record all cases, in the order in which the test replays them."""
    with tempfile.TemporaryDirectory() as folder:
        cases = [case for module in GROUPS.values() for case in module.cases()]
        twice = [name for name, count in Counter(case.name for case in cases).items() if count > 1]
        if twice:
            sys.exit(f"names that are not unique: {twice}")
        with running(Path(folder) / "ready") as rig:
            results = Replay(rig).all(cases)
        changed = states.replay(Path(folder) / "states", states.cases)
    for group, module in GROUPS.items():
        _write(group, module.cases(), results)
    _write("states", (case for case, _ in changed.values()), {name: result for name, (_, result) in changed.items()})


def _write(group: str, cases: Iterable[Case], results: dict[str, Result]) -> None:
    lines = [json.dumps(case.as_json() | results[case.name]) + "\n" for case in cases]
    (ANSWERS / f"{group}.jsonl").write_text("".join(lines), encoding="ascii")
    print(f"{group}: {len(lines)} cases")


if __name__ == "__main__":
    main()
