"""Every model by name, written by hand so that an editor can follow it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final

from pydantic import TypeAdapter

from models.base import DatasetFacts, SequentialRecommender
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
        return model


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
