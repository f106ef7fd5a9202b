"""Exposures: which arm a user was in at one ranking attempt. docs/contract.md has the fields.

An exposure is written for every ranking attempt of an assigned unit, for every outcome: events written
only for successful requests are biased when one arm fails more often.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

EXPOSURE_SCHEMA: Final = 1


class Exposure(BaseModel):
    """One unit in one experiment, at one ranking attempt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    v: Literal[1] = EXPOSURE_SCHEMA
    id: str
    ts: int  # server time, ms since epoch
    req: str  # request id
    unit_type: str
    unit: str
    layer: str
    exp: str
    arm: str  # the assigned arm, also when another model answered
    reason: str
    slot: int | None
    armb: int | None
    cfg: str  # config digest
    exp_salt: str
    forced: Literal[0, 1]  # an override: served, never analysed
    model: str
    ver: str
    served_model: str | None
    served_ver: str | None
    outcome: Literal["ok", "degraded", "error", "gone"]  # gone: the caller hung up before the answer
    k: int  # length of the answered list
    n_cand: int
