"""The steps of a day. Each may have been interrupted before: it finds what is there, and goes on or begins again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final, NamedTuple

from contract.bundle.manifest import ManifestError, read_manifest
from contract.bundle.tracks import promote as put_in_force
from contract.bundle.tracks import read_track
from contract.files import read_object
from deploy.daily.commands import Commands, StepFailedError
from deploy.daily.settings import Call, Settings
from deploy.daily.state import Day, Facts
from deploy.daily.verdict import verdict

_PROOF: Final = {
    "max_bundle_bytes": 2**33, "provider": "cpu", "threads": 1, "max_candidates": 2_000, "max_rows": 32,
    "max_batch_candidates": 20_000, "budget_seconds": 1.0, "memory_bytes": 2**33, "limit_seconds": 120.0,
}  # fmt: skip
"""The service's own check of a bundle (service/inference/proof.py), with room for a busy machine."""


class RefusedError(Exception):
    """The candidate does not go into force; the message has the reason."""


class Work(NamedTuple):
    """One day's work: the settings, the call, its record, and the last promoted day before it."""

    settings: Settings
    call: Call
    record: Day
    before: Day | None
    run: Commands

    @property
    def in_force(self) -> Path | None:
        """The run of the bundle that was promoted last."""
        return None if self.before is None else Path(self.before.steps["fit"]["run"])

    @property
    def folder(self) -> Path:
        """The folder of the day's runs."""
        return self.settings.runs.resolve() / self.settings.track / self.record.day.isoformat()

    def made(self, step: str) -> Facts:
        """Return the facts of an earlier step."""
        return self.record.steps[step]


def prepare(work: Work) -> Facts:
    """Prepare the log; users, items and feature values keep the indices of the run in force."""
    settings = work.settings
    after = [] if work.in_force is None else ["--after", work.in_force]
    where = ["--out", settings.data.resolve(), "--core", settings.core, *settings.prepare, *after, "--report"]
    said = work.run("training", "prepare", settings.log.resolve(), *where)
    name = str(json.loads(said.splitlines()[-1])["prepared"])
    source = str(read_object(settings.data / name / "provenance.json")["source_digest"])
    if work.before is not None and work.before.steps["prepare"]["source"] == source:
        raise RefusedError(f"the log has not changed since {work.before.day}")
    return {"dataset": name, "source": source}


def train(work: Work) -> Facts:
    """Train with the newest hours kept apart: from the weights in force, if the recipe is the same."""
    dataset = ["--dataset", work.made("prepare")["dataset"]]
    fresh = work.call.scratch or work.before is None or work.before.recipe != work.record.recipe
    start = [] if fresh else ["--from", work.in_force]
    run = _run(work, "train", "train", work.settings.recipe.resolve(), *dataset, *start)
    return {"run": str(run), "from": None if fresh else str(work.in_force)}


def judge(work: Work) -> Facts:
    """Compare the candidate with the bundle in force on the newest hours.

    Raises:
        RefusedError: it is worse, and the call does not force it.
    """
    run, before = Path(work.made("train")["run"]), None
    if work.in_force is not None:
        later = ["training", "evaluate", work.in_force, "--later", "--as", run, "--report"]
        before = json.loads(work.run(*later, *_machine(work)).splitlines()[-1])
    found = verdict(read_object(run / "metrics.json"), before, work.settings.tolerance)
    work.record.figures = found.figures
    if not found.promote and not work.call.force:
        raise RefusedError(found.reason)
    return {"reason": found.reason if found.promote else f"forced: {found.reason}"}


def fit(work: Work) -> Facts:
    """Learn every row, the newest hours included."""
    return {"run": str(_run(work, "fit", "fit-all", work.made("train")["run"]))}


def export(work: Work) -> Facts:
    """Write the bundle; its version is the day and the track."""
    run, version = Path(work.made("fit")["run"]), f"{work.record.day.isoformat()}-{work.settings.track}"
    model = str(read_object(run / "run.json")["model"])
    bundle = work.settings.bundles.resolve() / model / version
    if not bundle.exists():
        force = ["--force"] if work.call.force else []
        sign = [] if work.settings.sign is None else ["--sign", work.settings.sign.resolve()]
        work.run("exporter", run, "--out", work.settings.bundles.resolve(), "--version", version, *force, *sign)
    elif _run_of(bundle) != run.name:
        raise StepFailedError(f"{bundle} exists already, of another run")
    return {"model": model, "version": version, "bundle": str(bundle)}


def verify(work: Work) -> Facts:
    """Check the bundle as the service does before it serves one: signature, digests, contract, golden scores, speed."""
    signers = None if work.settings.signers is None else str(work.settings.signers.resolve())
    request = json.dumps({"directory": work.made("export")["bundle"], **_PROOF, "signers": signers})
    answer = json.loads(work.run("service.inference.proof", given=request).splitlines()[-1])
    if "refused" in answer:
        raise StepFailedError(f"the service would refuse the bundle: {answer['refused']}")
    return {"digest": answer["proof"]["digest"]}


def promote(work: Work) -> Facts:
    """Put the bundle in force."""
    made, settings = work.made("export"), work.settings
    known = read_track(settings.bundles, made["model"], settings.track)
    reason = work.made("judge")["reason"]
    found = put_in_force(settings.bundles, made["model"], settings.track, made["version"], reason)
    return {"promoted_at": found.promotion.promoted_at, "before": None if known is None else known.version}


STEPS: Final = {
    "prepare": prepare, "train": train, "judge": judge, "fit": fit, "export": export, "verify": verify,
    "promote": promote,
}  # fmt: skip
"""In the order of the day."""


def _run(work: Work, step: str, *command: object) -> Path:
    """Return the complete run of a training command, which may have been interrupted at any moment."""
    place = work.folder / step
    for path in place.glob("*/*/*/run.json"):
        return path.parent
    begun = [path.parent for path in place.glob("*/*/*/recipe.json")]
    if begun:
        work.run("training", "train", "--resume", begun[0], *_machine(work))
        return begun[0]
    shutil.rmtree(place, ignore_errors=True)
    work.run("training", *command, "--out", place, *_machine(work))
    return next(path.parent for path in place.glob("*/*/*/run.json"))


def _machine(work: Work) -> list[object]:
    return ["--data", work.settings.data.resolve(), "--threads", work.settings.threads]


def _run_of(bundle: Path) -> str:
    try:
        return read_manifest(bundle).provenance.run_id
    except (OSError, ManifestError) as error:
        raise StepFailedError(f"{bundle}: {error}") from None
