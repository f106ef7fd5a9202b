"""Every setting, and the only reader of the environment.

A setting is `RANKER_<GROUP>__<NAME>`, for example `RANKER_REDIS__READ_TIMEOUT_MS=20`. Unknown names are refused at
start, at any level, because a misspelt limit must not be ignored silently. Nothing is read elsewhere or at import.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from contract.behaviours.grammar import MAX_FUTURE_MS
from contract.redis_url.address import RedisAddress, RedisUrlError
from contract.redis_url.parse import parse_redis_url

PREFIX: Final = "RANKER_"
DELIMITER: Final = "__"

# Read by the tools around the service and often set in the same shell or container.
FOREIGN: Final = frozenset({"RANKER_DATA", "RANKER_BIND", "RANKER_PORT", "RANKER_RECIPES", "RANKER_BUILD_NETWORK"})

# Settings of the sink (analysis/sink/settings.py), which may share an environment file with the service.
_SINK: Final = f"{PREFIX}SINK{DELIMITER}"

# Kubernetes sets these in every pod of a namespace with a Service whose name begins with `ranker`.
_DISCOVERY: Final = re.compile(
    r"RANKER_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_DISCOVERED: Final = ("tcp://", "udp://", "sctp://")

MAX_WORKERS: Final = 256

Count = Annotated[int, Field(ge=1, le=10_000_000)]
Bytes = Annotated[int, Field(ge=1, le=2**40)]
Milliseconds = Annotated[int, Field(ge=1, le=3_600_000)]
Origin = Annotated[
    str, Field(pattern=r"^(\*|https?://[a-z0-9.\-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?)$")
]
Pause = Annotated[int, Field(ge=0, le=600_000)]  # milliseconds; 0 = none
# No braces, which would move a key to another slot of a Cluster, and no wildcards of Redis ACL patterns.
KeyPrefix = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{0,64}$")]

ExperimentState = Annotated[str, Field(pattern=r"^(redis(:[a-z0-9_-]{1,32})?|.*/.*)$")]


def _parsed(url: SecretStr) -> SecretStr:
    parse_redis_url(url.get_secret_value())
    return url


RedisUrl = Annotated[SecretStr, AfterValidator(_parsed)]


class SettingsError(ValueError):
    """The settings cannot be used; each problem names its variable, and none shows a value."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class Group(BaseModel):
    """Settings of one subject."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


class HttpSettings(Group):
    """The port and its connections."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """TCP port to listen on; 0 takes a free one."""
    workers: Annotated[int, Field(ge=1, le=MAX_WORKERS)] = 1
    """Processes behind the port (`--workers`); every limit is for each of them. 1 means no supervisor."""
    backlog: Count = 2_048
    """Maximum number of connections that wait in the kernel to be accepted."""
    max_connections: Count = 4_096
    """Maximum number of open connections, including idle ones; above it a connection gets 503 and is closed."""
    keep_alive_ms: Milliseconds = 75_000
    """How long (ms) an idle connection stays open. Keep it above the idle timeout of a proxy in front."""
    header_timeout_ms: Milliseconds = 5_000
    """How long (ms) a request's headers may take to arrive."""
    body_timeout_ms: Milliseconds = 10_000
    """How long (ms) a request's body may take to arrive."""
    write_timeout_ms: Milliseconds = 10_000
    """How long (ms) a caller may take to read an answer."""
    max_unsent_bytes: Bytes = 67_108_864
    """Maximum bytes of unread answers over all connections; above it the slowest connections are closed."""
    drain_delay_ms: Pause = 3_000
    """How long (ms) after SIGTERM the service still accepts requests while not ready, so that balancers notice."""
    drain_timeout_ms: Milliseconds = 15_000
    """How long (ms) accepted requests may take after that delay before they are abandoned."""
    cors_origins: tuple[Origin, ...] = ()
    """Origins whose pages may call the service from a browser, such as ["https://feed.example"]; ["*"] allows all."""
    docs_enabled: bool = True
    """Serve /docs and /openapi.json."""
    behaviours_enabled: bool = False
    """Serve GET /behaviours/{user_id}. It shows what a user did, so use it only in staging."""


class LimitsSettings(Group):
    """Limits on one request, and on concurrent requests."""

    max_body_bytes: Count = 1_048_576
    """Maximum bytes of a request body."""
    max_header_bytes: Count = 16_384
    """Maximum bytes of the request line and headers."""
    max_header_lines: Count = 64
    """Maximum number of header lines of a request."""
    max_url_bytes: Count = 4_096
    """Maximum bytes of a request target."""
    max_candidates: Count = 2_000
    """Maximum number of candidates in a ranking."""
    max_recent: Count = 500
    """Maximum number of behaviours in `recent` of a ranking."""
    max_behaviours: Count = 1_000
    """Maximum number of behaviours or feedback events in one request."""
    max_writes: Count = 32
    """Maximum concurrent POST /behaviours requests, and as many POST /feedback; above it requests get 429."""
    max_inflight: Count = 64
    """Maximum concurrent rankings; above it requests get 429. Fewer when one would take over 0.6 of its deadline."""
    deadline_ms: Milliseconds = 250
    """How long (ms) a ranking may take if the caller sends no X-Deadline-Ms."""
    max_deadline_ms: Milliseconds = 2_000
    """Maximum X-Deadline-Ms (ms); a larger value is lowered to it."""
    max_future_ms: Milliseconds = MAX_FUTURE_MS
    """POST /behaviours refuses a behaviour that is further (ms) ahead of the service's clock."""


class RedisSettings(Group):
    """The store of behaviours."""

    url: RedisUrl = SecretStr("redis://127.0.0.1:6379/0")
    """redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://. If Redis is down, answers are degraded."""
    prefix: KeyPrefix = ""
    """Prefix of every key, such as `staging:`, so that two environments can share one Redis or Cluster."""
    read_timeout_ms: Milliseconds = 20
    """How long (ms) a read may take before the ranking continues without it."""
    write_timeout_ms: Milliseconds = 250
    """How long (ms) an append may take."""
    max_connections: Count = 16
    """Maximum number of connections for reads, and the same number for writes."""
    read_length: Annotated[int, Field(ge=1, le=4_096)] = 200
    """Number of newest behaviours in the first read. If they do not fill a model's sequence, all are read."""
    max_length: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    """Behaviours kept per user. At a quarter more, they are trimmed; those that no served model can use go first."""
    ttl_s: Annotated[int, Field(ge=0, le=3_153_600_000)] = 15_552_000
    """How long (s) an inactive user is kept; 0 means forever."""

    @property
    def address(self) -> RedisAddress:
        """Return the address of the store of behaviours."""
        return parse_redis_url(self.url.get_secret_value())


class BatchingSettings(Group):
    """Sizes of batches and queues."""

    max_queue: Count = 256
    """Maximum number of requests that wait for a bundle; above it requests get 429."""
    max_rows: Annotated[int, Field(ge=1, le=4_096)] = 64
    """Maximum number of requests in one batch."""
    max_batch_candidates: Count = 20_000
    """Maximum number of candidates in one batch."""
    max_store_users: Annotated[int, Field(ge=1, le=4_096)] = 128
    """Maximum number of users in one read."""
    store_reads: Annotated[int, Field(ge=1, le=64)] = 4
    """Maximum number of concurrent reads."""


class InferenceSettings(Group):
    """Execution of models."""

    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` uses CUDA if it works, else the CPU; `cuda` refuses to start without CUDA."""
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """Threads of one run; 0 measures each bundle: one, or more if its largest request is slow with one."""
    warm_up_rows: tuple[Annotated[int, Field(ge=1, le=4_096)], ...] = (1, 2, 8, 64)
    """Batch sizes to run before the service is ready."""
    state_cache_entries: Annotated[int, Field(ge=0, le=10_000_000)] = 20_000
    """Maximum number of cached user states; 0 turns the cache off."""
    state_cache_bytes: Annotated[int, Field(ge=0, le=2**40)] = 268_435_456
    """Maximum bytes of all cached user states."""
    popularity_fallback: bool = True
    """Answer in order of popularity if the engine fails or is too late; otherwise answer 503 or 504."""


class BundlesSettings(Group):
    """The source of models."""

    root: Path = Path("bundles")
    """Folder that contains the bundles as <model>/<version>/."""
    max_bytes: Annotated[int, Field(ge=1, le=2**40)] = 2**31
    """Maximum bytes of one bundle's files."""
    map_tables: bool = True
    """Map large tables from their files, which all processes then share; false reads them into memory."""
    max_memory_bytes: Annotated[int, Field(ge=2**28, le=2**42)] = 2**32
    """Maximum memory of the process that checks a bundle on the CPU; a bundle that needs more is refused."""
    load_timeout_ms: Annotated[int, Field(ge=1_000, le=3_600_000)] = 60_000
    """How long (ms) loading one bundle may take before the bundle is refused."""
    deadline_share: Annotated[float, Field(gt=0, le=1_000)] = 0.8
    """Share of `limits.deadline_ms` that the largest request may take; a slower bundle is refused at load."""
    default_model: str = ""
    """The model to serve without an experiment file; empty means the only model in the folder."""


class ExperimentsSettings(Group):
    """Assignment of users to models."""

    file: Path | None = None
    """The experiment file, YAML or JSON; without one, all users get `bundles.default_model`."""
    reload_ms: Milliseconds = 5_000
    """How often (ms) to check the file and the state that other replicas accepted."""
    state: ExperimentState = "redis"
    """Where replicas keep the accepted state: `redis`, `redis:NAME`, or a shared file (a path with a slash)."""
    state_timeout_ms: Milliseconds = 1_000
    """How long (ms) a read or write of the state may take."""
    state_copy: Path | None = None
    """File for this replica's copy of the state; used at start if the state cannot be read."""
    show_bucket: bool = True
    """Include the arm bucket (`b`) in X-AB-Bucket."""
    override_secret: SecretStr | None = None
    """Key that signs X-AB-Override; without it no override is accepted."""
    pseudonym_key: SecretStr | None = None
    """Key that turns ids of users, authors and devices in events into pseudonyms; without it events have the ids."""


class StreamsSettings(Group):
    """Exposures and feedback written to Redis streams."""

    enabled: bool = True
    """Write exposures and feedback; if off, exposures count as dropped."""
    url: RedisUrl | None = None
    """The Redis of the streams, written like `redis.url`; empty uses that one, where full streams evict behaviours."""
    max_queue: Count = 10_000
    """Maximum number of events of one stream in memory; further ones are dropped and counted."""
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Maximum number of events in one write."""
    interval_ms: Milliseconds = 200
    """How long (ms) an event may wait for others to be written with."""
    max_length: Annotated[int, Field(ge=1, le=10**12)] = 400_000
    """Approximate number of events that a stream keeps; two streams of the default length fit into 512 MB."""
    write_timeout_ms: Milliseconds = 1_000
    """How long (ms) a write may take."""
    ack_timeout_ms: Milliseconds = 1_000
    """How long (ms) POST /feedback?ack=stored waits for Redis, or X-Deadline-Ms if that is shorter."""
    close_timeout_ms: Pause = 2_000
    """How long (ms) writing the last events may take at shutdown; the rest goes to the spool."""
    spool: Path = Path("spool")
    """Folder for events that could not be written before shutdown; the next start writes them."""
    spool_max_bytes: Annotated[int, Field(ge=0, le=2**40)] = 2**26
    """Maximum bytes of all files in the spool; events that do not fit are dropped and counted. 0 keeps none."""


class RankingLogSettings(Group):
    """The ranking log: the list that each ranking answered, written to a Redis stream for the analysis."""

    share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the users whose rankings are logged, chosen by a hash; 0 is off. Needs `~rank:log:*` in the ACL."""
    top: Annotated[int, Field(ge=1, le=1_000)] = 20
    """Maximum number of items of one ranking to log, from the best on."""
    attributes: tuple[str, ...] = ()
    """Names of the request's attributes to log, as a JSON array; all others are left out."""
    max_length: Annotated[int, Field(ge=1, le=10**12)] = 100_000
    """Approximate number of rankings that the stream keeps."""


class PageSettings(Group):
    """The page for people."""

    enabled: bool = False
    """Serve the page at GET /. It shows what users did, so use it only in staging."""
    report: Path | None = None
    """HTML report of an experiment that the page links to and shows without scripts; empty shows no link."""


class LoggingSettings(Group):
    """Logs on standard output."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level to log."""
    format: Literal["json", "console"] = "json"
    """`json` writes one object per line; `console` writes lines for people."""
    access: bool = True
    """Log one line per request, except successful health checks, metric scrapes and rankings refused with 429."""
    buffer_bytes: int = Field(8 * 1024 * 1024, ge=16_384)
    """Maximum bytes of log lines that wait for a slow reader; above it new lines are dropped and counted."""


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
    streams: StreamsSettings = StreamsSettings()
    """Exposures and feedback written to Redis streams."""
    ranking_log: RankingLogSettings = RankingLogSettings()
    """The ranking log: the list that each ranking answered, written to a Redis stream for the analysis."""
    page: PageSettings = PageSettings()
    """The page for people."""
    logging: LoggingSettings = LoggingSettings()
    """Logs on standard output."""

    @property
    def streams_address(self) -> RedisAddress:
        """Return the address of the streams."""
        return parse_redis_url((self.streams.url or self.redis.url).get_secret_value())


def load_settings() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: a variable is unknown or has an invalid value.
    """
    problems = unknown_names(os.environ)  # noqa: TID251 - this is the one reader
    if problems:
        raise SettingsError(problems)
    try:
        return Settings()
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        problems = [f"{_variable(detail['loc'])}: {detail['msg'].removeprefix('Value error, ')}" for detail in details]
        raise SettingsError(problems) from error
    except ValueError as error:  # from pydantic-settings, which names the group but not the variable
        raise SettingsError([f"{str(error).splitlines()[0][:200]}: write a list as JSON, for example [1,8]"]) from error


def with_workers(settings: Settings, workers: int | None) -> Settings:
    """Return settings with another number of workers, the same where none is given.

    Raises:
        SettingsError: the number cannot be used.
    """
    if workers is None:
        return settings
    if not 1 <= workers <= MAX_WORKERS:
        raise SettingsError([f"--workers: a number from 1 to {MAX_WORKERS}"])
    return settings.model_copy(update={"http": settings.http.model_copy(update={"workers": workers})})


def passed_sockets() -> int:
    """Return how many listening sockets a service manager such as systemd has passed to this process (LISTEN_FDS)."""
    environment = os.environ  # noqa: TID251 - this is the one reader
    count = environment.get("LISTEN_FDS", "")
    return int(count) if environment.get("LISTEN_PID") == str(os.getpid()) and count.isdecimal() else 0


def unknown_names(environment: Mapping[str, str]) -> list[str]:
    """Return the problems with the names of the environment's RANKER_ variables."""
    known = sorted(name for name, _ in variables())
    problems = []
    for name in sorted(environment):
        upper = name.upper()
        if upper.startswith(PREFIX) and upper not in known and not _is_foreign(upper, environment[name]):
            near = difflib.get_close_matches(upper, known, n=1)
            problems.append(f"{name[:64]}: unknown setting" + (f"; did you mean {near[0]}?" if near else ""))
    return problems


def variables() -> Iterator[tuple[str, Any]]:  # Any: pydantic's FieldInfo and the default's type
    """Yield the name of every variable with its field, in the order of this file."""
    for group_name, group in Settings.model_fields.items():
        for name, field in type(group.default).model_fields.items():
            yield f"{PREFIX}{group_name}{DELIMITER}{name}".upper(), field


def env_example() -> str:
    """Return the text of .env.example: every variable with its description and its default."""
    lines = ["# Every setting of the service with its default (`python -m service --env-example`).", ""]
    for group_name, group in Settings.model_fields.items():
        lines.append(f"# --- {group_name}: {group.description}")
        defaults = effective(Settings.model_construct())
        for name, field in variables():
            if name.startswith(f"{PREFIX}{group_name}{DELIMITER}".upper()):
                lines += [f"# {field.description}", f"{name}={defaults[name]}"]
        lines.append("")
    return "\n".join(lines)


def effective(settings: Settings) -> dict[str, str]:
    """Return every variable with its effective value; secrets are replaced, a URL keeps its host."""
    values: dict[str, str] = {}
    for name, _ in variables():
        group, _, field = name.removeprefix(PREFIX).lower().partition(DELIMITER)
        values[name] = _shown(field, getattr(getattr(settings, group), field))
    return values


def warnings(settings: Settings) -> list[str]:
    """Return the unsafe settings, each with its variable."""
    found = [f"{PREFIX}REDIS__URL: {warning}" for warning in settings.redis.address.warnings]
    if settings.streams.enabled and settings.streams.url is not None:
        found += [f"{PREFIX}STREAMS__URL: {warning}" for warning in settings.streams_address.warnings]
    if settings.ranking_log.share and not settings.streams.enabled:
        found.append(f"{PREFIX}RANKING_LOG__SHARE: nothing is logged, because {PREFIX}STREAMS__ENABLED is false")
    return found


def _is_foreign(name: str, value: str) -> bool:
    if DELIMITER in name:
        return name.startswith(_SINK)
    return name in FOREIGN or bool(_DISCOVERY.fullmatch(name)) or value.startswith(_DISCOVERED)


def _shown(field: str, value: object) -> str:
    if isinstance(value, SecretStr):
        return _redacted(value.get_secret_value()) if field == "url" else "***"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{','.join(str(part) for part in value)}]"
    return "" if value is None else str(value)


def _redacted(url: str) -> str:
    """Return a Redis URL without its credentials and options, and nothing of one that does not parse."""
    try:
        return str(parse_redis_url(url))
    except RedisUrlError:
        return "***"


def _variable(location: tuple[int | str, ...]) -> str:
    return PREFIX + DELIMITER.join(str(part) for part in location[:2]).upper()
