"""An experiment as it was planned: its arms and their shares, from the experiments file or from the command line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from analysis.experiments_file import parsed
from contract.command_line import CommandError
from contract.experiments.definition import Experiment, Holdout
from contract.experiments.fields import CONTROL
from contract.experiments.tables import HELD_OUT, HOLDOUT, MEASURED


@dataclass(frozen=True)
class Setup:
    """The parts of a plan that the report reads; None and empty if no plan is given."""

    experiment: str
    alike: bool = False  # an A/A experiment
    shares: dict[str, int] | None = None  # by arm, in the order of the file
    ranges: dict[str, tuple[tuple[int, int], ...]] | None = None  # of the exposures' column `bucket`
    bucket: str = "armb"
    salt: str | None = None
    end: datetime | None = None
    primary: tuple[str, ...] = ()
    guardrails: tuple[str, ...] = ()
    secondary: tuple[str, ...] = ()
    control: str = CONTROL

    def treatments(self, exposed: Iterable[str]) -> tuple[str, ...]:
        """Return the arms that are compared with the control: those of the plan, or else those that were exposed."""
        arms = [arm for arm, share in self.shares.items() if share > 0] if self.shares is not None else sorted(exposed)
        return tuple(arm for arm in arms if arm != self.control)

    def unplanned(self, exposed: Iterable[str]) -> tuple[str, ...]:
        """Return the arms that were exposed although they have no share."""
        return () if self.shares is None else tuple(sorted(arm for arm in exposed if not self.shares.get(arm)))


def from_file(path: Path, experiment: str) -> Setup:
    """Read an experiment of an experiments file.

    Raises:
        CommandError: the file is missing or breaks a rule, has no such experiment, or the experiment interleaves.
    """
    config = parsed(path, path.read_bytes())
    if experiment == HOLDOUT and config.holdout is not None:
        return _of_holdout(config.holdout)
    known = {one.key: one for layer in config.layers for one in layer.experiments}
    if experiment not in known:
        raise CommandError(f"{path}: no experiment {experiment!r}; it has {', '.join(known) or 'none'}")
    if known[experiment].kind == "interleave":
        raise CommandError(
            f"{path}: {experiment} interleaves: its users see both arms, so no arm's users can be compared; "
            f"use python -m analysis interleave {experiment}"
        )
    return _setup(known[experiment])


def from_shares(experiment: str, text: str) -> Setup:
    """Read `control=5000,treatment=5000`.

    Raises:
        CommandError: it is not a list of arms with whole shares, or has no control.
    """
    shares: dict[str, int] = {}
    for part in text.split(","):
        arm, _, share = part.strip().partition("=")
        if not arm or arm in shares or not share.isdecimal():
            raise CommandError(f"--shares {text}: give each arm once with a whole number, as control=1,treatment=1")
        shares[arm] = int(share)
    control = _control(experiment)
    if control not in shares:
        raise CommandError(f"--shares {text}: one arm must be named {control}")
    return Setup(experiment, shares=shares, control=control)


def unplanned(experiment: str) -> Setup:
    """Return what is known of an experiment without its plan."""
    return Setup(experiment, control=_control(experiment))


def _control(experiment: str) -> str:
    return HELD_OUT if experiment == HOLDOUT else CONTROL


def _setup(found: Experiment) -> Setup:
    return Setup(
        experiment=found.key,
        alike=found.kind == "aa",
        shares={arm.key: _share(arm.buckets) for arm in found.arms},
        ranges={arm.key: arm.buckets for arm in found.arms},
        salt=found.salt,
        end=found.end,
        primary=found.primary,
        guardrails=found.guardrails,
        secondary=found.secondary,
    )


def _of_holdout(found: Holdout) -> Setup:
    """Compare the held-out users with the measured ones: the difference is the value of all experiments together."""
    ranges = {HELD_OUT: found.buckets, MEASURED: found.measured}
    shares = {arm: _share(buckets) for arm, buckets in ranges.items()}
    return Setup(HOLDOUT, shares=shares, ranges=ranges, bucket="slot", salt=found.salt, control=HELD_OUT)


def _share(buckets: Iterable[tuple[int, int]]) -> int:
    return sum(stop - start for start, stop in buckets)
