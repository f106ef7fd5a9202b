"""`python -m deploy.kubernetes [--render]`: lint the chart, render its value files, validate what comes out.

It runs in the environment `.checks` (`make helm-check`), which has the schemas of Kubernetes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from contract.command_line import CommandError, run
from deploy.kubernetes.helm import find_helm
from deploy.kubernetes.rendering import CHART, RENDERED, SHAPES, manifests, render, without_copies


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the chart; return 0, or 1 after printing what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m deploy.kubernetes", description=__doc__.partition("\n")[0])
    parser.add_argument("--render", action="store_true", help="write deploy/kubernetes/rendered/ again")
    options = parser.parse_args(arguments)
    return run("deploy.kubernetes", lambda: _check(options.render))


def _check(write: bool) -> int:
    helm = find_helm()
    for shape, values in SHAPES.items():
        helm.lint(CHART, values)
        documents = render(helm, shape)
        _compare(shape, without_copies(documents), write)
        _validate(shape, "---\n".join(documents))
    return 0


def _compare(shape: str, text: str, write: bool) -> None:
    kept = RENDERED / f"{shape}.yaml"
    if write:
        kept.write_text(text, encoding="utf-8")
    elif not kept.exists() or kept.read_text(encoding="utf-8") != text:
        raise CommandError(
            f"{kept.name} is not what the chart renders: make helm-check RENDER=1, and look at the change"
        )


def _validate(shape: str, text: str) -> None:
    from deploy.kubernetes.validation import VERSIONS, problems  # its packages are in the environment .checks only

    found = [problem for manifest in manifests(text) for problem in problems(manifest)]
    if found:
        raise CommandError(f"{shape}: {'; '.join(found)}")
    print(f"{shape}: {len(manifests(text))} manifests are valid for Kubernetes {' and '.join(VERSIONS)}")


if __name__ == "__main__":
    sys.exit(main())
