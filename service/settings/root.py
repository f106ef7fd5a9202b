"""All settings, section by section."""

from __future__ import annotations

from typing import Final

from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from contract.redis_url.address import RedisAddress
from contract.redis_url.parse import parse_redis_url
from service.settings.access import AccessSettings
from service.settings.admin import AdminSettings
from service.settings.batching import BatchingSettings
from service.settings.bundles import BundlesSettings
from service.settings.experiments import ExperimentsSettings
from service.settings.http import HttpSettings
from service.settings.inference import InferenceSettings
from service.settings.limits import LimitsSettings
from service.settings.logging import LoggingSettings
from service.settings.page import PageSettings
from service.settings.ranking_log import RankingLogSettings
from service.settings.redis import RedisSettings
from service.settings.secret import without_files
from service.settings.shadow import ShadowSettings
from service.settings.slow import SlowSettings
from service.settings.streams import StreamsSettings
from service.settings.traces import TracesSettings

PREFIX: Final = "RANKER_"
DELIMITER: Final = "__"


class Settings(BaseSettings):
    """All settings; the entry point creates them once and passes them on."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=DELIMITER,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    http: HttpSettings = HttpSettings()
    """The port and its connections."""
    access: AccessSettings = AccessSettings()
    """Who may call."""
    admin: AdminSettings = AdminSettings()
    """A second port, for operators: metrics, information, documents, the page, and health checks."""
    limits: LimitsSettings = LimitsSettings()
    """Limits on one request, and on concurrent requests."""
    redis: RedisSettings = RedisSettings()
    """The store of behaviours."""
    batching: BatchingSettings = BatchingSettings()
    """Sizes of batches and queues."""
    inference: InferenceSettings = InferenceSettings()
    """Execution of models."""
    bundles: BundlesSettings = BundlesSettings()
    """The source of models."""
    experiments: ExperimentsSettings = ExperimentsSettings()
    """Assignment of users to models."""
    shadow: ShadowSettings = ShadowSettings()
    """Bundles that score a sample of the rankings after they were answered."""
    streams: StreamsSettings = StreamsSettings()
    """Exposures and feedback written to Redis streams."""
    ranking_log: RankingLogSettings = RankingLogSettings()
    """The ranking log: the list that each ranking answered, written to a Redis stream for the analysis."""
    slow: SlowSettings = SlowSettings()
    """The slowest rankings of the last hour, for operators (docs/slow-rankings.md)."""
    page: PageSettings = PageSettings()
    """The page for people."""
    logging: LoggingSettings = LoggingSettings()
    """Logs on standard output."""
    traces: TracesSettings = TracesSettings()
    """Requests as OpenTelemetry traces; off without an endpoint."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments and variables; variables that name a file are not settings themselves."""
        if isinstance(env_settings, EnvSettingsSource):
            env_settings = without_files(env_settings, cls)
        return (init_settings, env_settings)

    @property
    def streams_address(self) -> RedisAddress:
        """Return the address of the streams."""
        return parse_redis_url((self.streams.url or self.redis.url).get_secret_value())
