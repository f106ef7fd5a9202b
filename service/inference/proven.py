"""An engine that has given its bundle's golden scores."""

from __future__ import annotations

from collections.abc import Callable

from service.bundles.bundle import Bundle
from service.inference.engine import EngineError, OnnxEngine, ProviderChoice
from service.settings.inference import InferenceSettings

EngineMaker = Callable[[Bundle, ProviderChoice, int], OnnxEngine]


def proven_engine(
    bundle: Bundle, settings: InferenceSettings, make_engine: EngineMaker, provider: ProviderChoice | None = None
) -> OnnxEngine:
    """Return an engine that has given the bundle's golden scores on its provider, and has run every batch size.

    Raises:
        EngineError: it does not, or cannot be made.
    """
    engine = make_engine(bundle, provider or settings.provider, settings.threads)
    try:
        engine.verify_golden()
        engine.warm_up(settings.warm_up_rows)
        if engine.capture_where_it_wins(settings.warm_up_rows):
            engine.verify_golden()
    except EngineError:
        engine.close()
        raise
    return engine
