"""Every model by name, written by hand so that an editor can follow it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final

import torch
from pydantic import TypeAdapter

from models.base import DatasetFacts, SequentialRecommender, Tensors
from models.baselines.a2svd import A2SVD
from models.baselines.bert4rec import BERT4Rec, BERT4RecConfig
from models.baselines.bpr import BPR, BPRConfig
from models.baselines.caser import Caser, CaserConfig
from models.baselines.comirec import ComiRecDR, ComiRecDRConfig, ComiRecSA, ComiRecSAConfig
from models.baselines.deeprec import FrameConfig
from models.baselines.fmlp import FMLP, FMLPConfig
from models.baselines.fpmc import FPMC, FPMCConfig
from models.baselines.gru4rec import GRU4Rec, GRU4RecConfig
from models.baselines.gru4rec_deeprec import GRU4RecDeeprec, GRU4RecDeeprecConfig
from models.baselines.mimn import MIMN, MIMNConfig
from models.baselines.mind import MIND, MINDConfig
from models.baselines.mlp4rec import MLP4Rec, MLP4RecConfig
from models.baselines.mlp_mixer import MLPMixer, MLPMixerConfig
from models.baselines.popularity import Popularity, PopularityConfig
from models.baselines.sasrec import SASRec, SASRecConfig
from models.baselines.sli_rec import SLiRec
from models.baselines.surge import SURGE, SURGEConfig
from models.baselines.tgsrec import TGSRec, TGSRecConfig
from models.context import ContextVectors
from models.mgnm import MGNM, MGNMConfig
from models.pyramid_mixer import PyramidMixer, PyramidMixerConfig

_LARGEST: Final = 65_536  # of any size or count in a config
_SIZES: Final = frozenset(
    ("blocks", "heads", "hidden", "horizontal", "inner", "interests", "length", "rnn_gradient_every", "scales", "width")
)  # what is never 0, in every model that has it


@dataclass(frozen=True)
class ModelEntry:
    """A model's constructor and the type of its config."""

    module: Callable[[Any, DatasetFacts], SequentialRecommender]
    config: type[Any]

    @cached_property
    def _checker(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.config)  # takes longer to make than most models

    def configure(self, config: dict[str, Any]) -> Any:  # the config's type differs by model
        """Return the typed config.

        Raises:
            ValueError: a key that the config does not know, named, or a value it refuses.
        """
        known = {field.name for field in fields(self.config)}
        unknown = sorted(set(config) - known)
        if unknown:
            raise ValueError(f"model config: unknown key {unknown[0]!r}; there are {', '.join(sorted(known))}")
        for key, value in config.items():
            _check_numbers(key, value)
        return self._checker.validate_python(config)

    def build(self, config: dict[str, Any], facts: DatasetFacts) -> SequentialRecommender:
        """Return a fresh model.

        Raises:
            ValueError: as `configure`, or the model sets no length or item count.
        """
        model = self.module(self.configure(config), facts)
        for name in ("length", "item_count"):
            if not hasattr(model, name):
                raise ValueError(f"{type(model).__name__} sets no {name}")
        if facts.context:
            model.context = ContextVectors(facts.context, _context_width(model), facts.context_hidden)
        return model


def _context_width(model: SequentialRecommender) -> int:
    """Return the width of the vector that the context is added to, from the state of an empty history.

    Raises:
        ValueError: the model has no such vector.
    """
    if model.context_state is None:
        raise ValueError(f"context: {type(model).__name__} cannot read a context")
    nothing: Tensors = {name: torch.zeros((2, model.length), dtype=torch.int64) for name in model.columns}
    nothing |= {name: torch.zeros(2, dtype=torch.int64) for name in model.row_inputs}
    model.eval()
    with torch.no_grad():
        state = model.encode(nothing).state
    model.train()
    if model.context_state not in state:
        raise ValueError(
            f"context: {type(model).__name__} has no {model.context_state!r} in its state; context_state names the "
            f"tensor that the context is added to; there are {', '.join(state)}"
        )
    return state[model.context_state].shape[-1]


def _check_numbers(key: str, value: object) -> None:
    """Refuse numbers that no size, count or share can be, before a constructor loops or allocates by them."""
    if key in _SIZES and value == 0:
        raise ValueError(f"model config: {key}: must be at least 1")
    for number in value if isinstance(value, list | tuple) else (value,):
        if isinstance(number, int) and not 0 <= number <= _LARGEST:
            raise ValueError(f"model config: {key}: {number} is not a whole number from 0 to {_LARGEST}")
        if isinstance(number, float) and not math.isfinite(number):
            raise ValueError(f"model config: {key}: {number} is not a finite number")


MODELS: dict[str, ModelEntry] = {
    "popularity": ModelEntry(Popularity, PopularityConfig),
    "bpr": ModelEntry(BPR, BPRConfig),
    "fpmc": ModelEntry(FPMC, FPMCConfig),
    "gru4rec": ModelEntry(GRU4Rec, GRU4RecConfig),
    "fmlp": ModelEntry(FMLP, FMLPConfig),
    "mlp_mixer": ModelEntry(MLPMixer, MLPMixerConfig),
    "sasrec": ModelEntry(SASRec, SASRecConfig),
    "bert4rec": ModelEntry(BERT4Rec, BERT4RecConfig),
    "mlp4rec": ModelEntry(MLP4Rec, MLP4RecConfig),
    "mimn": ModelEntry(MIMN, MIMNConfig),
    "surge": ModelEntry(SURGE, SURGEConfig),
    "pyramid_mixer": ModelEntry(PyramidMixer, PyramidMixerConfig),
    "mind": ModelEntry(MIND, MINDConfig),
    "comirec_dr": ModelEntry(ComiRecDR, ComiRecDRConfig),
    "comirec_sa": ModelEntry(ComiRecSA, ComiRecSAConfig),
    "caser": ModelEntry(Caser, CaserConfig),
    "a2svd": ModelEntry(A2SVD, FrameConfig),
    "gru4rec_deeprec": ModelEntry(GRU4RecDeeprec, GRU4RecDeeprecConfig),
    "sli_rec": ModelEntry(SLiRec, FrameConfig),
    "mgnm": ModelEntry(MGNM, MGNMConfig),
    "tgsrec": ModelEntry(TGSRec, TGSRecConfig),
}
