"""Every setting, and the only reader of the environment.

A setting is `RANKER_<GROUP>__<NAME>`, say `RANKER_REDIS__READ_TIMEOUT_MS=20`. Unknown names are refused at start, at
any level: a misspelt limit that is silently ignored is worse than none. Nothing is read anywhere else, or at import.
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

from contract.grammar import MAX_FUTURE_MS
from service.redis_url import RedisAddress, RedisUrlError, parse_redis_url

PREFIX: Final = "RANKER_"
DELIMITER: Final = "__"

# Read by the tools around the service and often set in the same shell or container.
FOREIGN: Final = frozenset({"RANKER_DATA", "RANKER_BIND", "RANKER_PORT", "RANKER_RECIPES", "RANKER_BUILD_NETWORK"})

# Kubernetes sets these in every pod beside a Service whose name begins with `ranker`.
_DISCOVERY: Final = re.compile(
    r"RANKER_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_DISCOVERED: Final = ("tcp://", "udp://", "sctp://")

Count = Annotated[int, Field(ge=1, le=10_000_000)]
Bytes = Annotated[int, Field(ge=1, le=2**40)]
Milliseconds = Annotated[int, Field(ge=1, le=3_600_000)]
Origin = Annotated[
    str, Field(pattern=r"^(\*|https?://[a-z0-9.\-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?)$")
]
Pause = Annotated[int, Field(ge=0, le=600_000)]  # milliseconds; 0 = none
# No braces, which would move a key to another slot of a Cluster, and nothing that a pattern of an ACL reads.
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
    backlog: Count = 2_048
    """Connections that the kernel may hold before they are accepted."""
    max_connections: Count = 4_096
    """Connections open at once, idle ones included; one more is refused with 503 and closed."""
    keep_alive_ms: Milliseconds = 75_000
    """How long (ms) an idle connection stays open; keep it above the idle time of whatever proxy stands before."""
    header_timeout_ms: Milliseconds = 5_000
    """How long (ms) a request's headers may take to arrive."""
    body_timeout_ms: Milliseconds = 10_000
    """How long (ms) a request's body may take to arrive."""
    write_timeout_ms: Milliseconds = 10_000
    """How long (ms) a caller may take to read an answer."""
    max_unsent_bytes: Bytes = 67_108_864
    """Bytes of answers that callers have not read yet, of all connections together; above it the slowest are closed."""
    drain_delay_ms: Pause = 3_000
    """How long (ms) after SIGTERM the service goes on accepting, not ready, until balancers have noticed."""
    drain_timeout_ms: Milliseconds = 15_000
    """How long (ms) accepted requests may take after that before they are abandoned."""
    cors_origins: tuple[Origin, ...] = ()
    """Origins whose pages may call the service from a browser, say ["https://feed.example"]; ["*"] allows all."""
    docs_enabled: bool = True
    """Whether /docs and /openapi.json answer."""
    behaviours_enabled: bool = False
    """Whether GET /behaviours/{user_id} answers; it shows what a user did, so for staging alone."""


class LimitsSettings(Group):
    """How much one request may ask for, and how much may be asked at once."""

    max_body_bytes: Count = 1_048_576
    """Bytes of a request's body."""
    max_header_bytes: Count = 16_384
    """Bytes of a request's headers, its first line included."""
    max_header_lines: Count = 64
    """Header lines of a request."""
    max_url_bytes: Count = 4_096
    """Bytes of a request's target."""
    max_candidates: Count = 2_000
    """Candidates of a ranking."""
    max_recent: Count = 500
    """Behaviours that a ranking may bring along."""
    max_behaviours: Count = 1_000
    """Behaviours, or pieces of feedback, that may be sent at once."""
    max_writes: Count = 32
    """Maximum concurrent POST /behaviours requests, and as many POST /feedback; above it requests get 429."""
    max_inflight: Count = 64
    """Rankings in progress; one more is refused with 429. Fewer where they come to take a third of `deadline_ms`."""
    deadline_ms: Milliseconds = 250
    """How long (ms) a ranking may take where the caller names no X-Deadline-Ms."""
    max_deadline_ms: Milliseconds = 2_000
    """The longest X-Deadline-Ms (ms); a longer one is cut to it."""
    max_future_ms: Milliseconds = MAX_FUTURE_MS
    """How far (ms) ahead of our clock a behaviour may be; POST /behaviours refuses one further ahead."""


class RedisSettings(Group):
    """Where behaviours are kept."""

    url: RedisUrl = SecretStr("redis://127.0.0.1:6379/0")
    """redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://; while it is away, answers are degraded."""
    prefix: KeyPrefix = ""
    """What every key begins with, say `staging:`, so that two environments can share one Redis or Cluster."""
    read_timeout_ms: Milliseconds = 20
    """How long (ms) a read may take before the ranking goes on without it."""
    write_timeout_ms: Milliseconds = 250
    """How long (ms) an append may take."""
    max_connections: Count = 16
    """Connections for reads, and as many for writes."""
    read_length: Annotated[int, Field(ge=1, le=4_096)] = 200
    """Newest behaviours of the first read; if they do not fill a model's sequence, all that is kept is read."""
    max_length: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    """Behaviours that a user keeps; when a quarter over, those that no served model can use are dropped first."""
    ttl_s: Annotated[int, Field(ge=0, le=3_153_600_000)] = 15_552_000
    """How long (s) a user who does nothing is kept; 0 keeps for ever."""

    @property
    def address(self) -> RedisAddress:
        """Return where behaviours are kept."""
        return parse_redis_url(self.url.get_secret_value())


class BatchingSettings(Group):
    """How much one batch may hold, and how much may wait for the next."""

    max_queue: Count = 256
    """Requests that may wait for a bundle; one more is refused with 429."""
    max_rows: Annotated[int, Field(ge=1, le=4_096)] = 64
    """Requests of one batch."""
    max_batch_candidates: Count = 20_000
    """Candidates of one batch."""
    max_store_users: Annotated[int, Field(ge=1, le=4_096)] = 128
    """Users of one read."""
    store_reads: Annotated[int, Field(ge=1, le=64)] = 4
    """Reads in progress at once."""


class InferenceSettings(Group):
    """How models run."""

    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes CUDA where it truly runs, `cuda` refuses to start without it."""
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """Threads of one run; 0 takes what the cgroup and the affinity allow."""
    warm_up_rows: tuple[Annotated[int, Field(ge=1, le=4_096)], ...] = (1, 2, 8, 64)
    """Batch sizes that are run before the service is ready."""
    state_cache_entries: Annotated[int, Field(ge=0, le=10_000_000)] = 20_000
    """User states kept; 0 keeps none."""
    state_cache_bytes: Annotated[int, Field(ge=0, le=2**40)] = 268_435_456
    """Bytes of all user states kept."""
    popularity_fallback: bool = True
    """Whether an engine that is gone, or too late, is answered for in order of popularity; else 503 or 504."""


class BundlesSettings(Group):
    """Where models come from."""

    root: Path = Path("bundles")
    """Folder of <model>/<version>/ bundles."""
    max_bytes: Annotated[int, Field(ge=1, le=2**40)] = 2**31
    """Bytes of one bundle's files."""
    max_memory_bytes: Annotated[int, Field(ge=2**28, le=2**42)] = 2**32
    """Memory of the process that tries a bundle on the CPU; a bundle that needs more is refused."""
    load_timeout_ms: Annotated[int, Field(ge=1_000, le=3_600_000)] = 60_000
    """How long (ms) loading one bundle may take before it is ended and the bundle refused."""
    deadline_share: Annotated[float, Field(gt=0, le=1_000)] = 0.8
    """Share of `limits.deadline_ms` that the largest request may take; a slower bundle is refused when it is loaded."""
    default_model: str = ""
    """The model served where there is no experiment file; empty takes the only one there is."""


class ExperimentsSettings(Group):
    """Who is served what."""

    file: Path | None = None
    """The experiment file, YAML or JSON; without one, everybody is served `bundles.default_model`."""
    reload_ms: Milliseconds = 5_000
    """How often (ms) the file is looked at, and what other replicas accepted."""
    state: ExperimentState = "redis"
    """Where replicas keep what they accepted: `redis`, `redis:NAME`, or a file that all share (a path with a slash)."""
    state_timeout_ms: Milliseconds = 1_000
    """How long (ms) the state may take to be read or written."""
    state_copy: Path | None = None
    """A file for a copy of the state, one for each replica: a start reads it while the state cannot be read."""
    show_bucket: bool = True
    """Whether X-AB-Bucket names the arm bucket (`b`)."""
    override_secret: SecretStr | None = None
    """What X-AB-Override must be signed with; without it no override is accepted."""
    pseudonym_key: SecretStr | None = None
    """Key under which user ids leave in exposures and feedback as pseudonyms; without it, as they are."""


class StreamsSettings(Group):
    """Exposures and feedback on their way to Redis streams."""

    enabled: bool = True
    """Whether exposures and feedback are written; without, exposures count as dropped."""
    url: RedisUrl | None = None
    """The Redis of the streams, as `redis.url`; empty shares that one, where full streams evict behaviours."""
    max_queue: Count = 10_000
    """Events of one stream held in memory; one more is dropped and counted."""
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Events written at once."""
    interval_ms: Milliseconds = 200
    """How long (ms) an event may wait for company."""
    max_length: Annotated[int, Field(ge=1, le=10**12)] = 400_000
    """Events that a stream keeps, about; two streams of the default length fit into 512 MB."""
    write_timeout_ms: Milliseconds = 1_000
    """How long (ms) a write may take."""
    ack_timeout_ms: Milliseconds = 1_000
    """How long (ms) POST /feedback?ack=stored waits for Redis; a shorter X-Deadline-Ms counts."""
    close_timeout_ms: Pause = 2_000
    """How long (ms) the last events may take at the end; what is left goes to the spool."""
    spool: Path = Path("spool")
    """Folder for events that could not be written before the end; the next start writes them."""
    spool_max_bytes: Annotated[int, Field(ge=0, le=2**40)] = 2**26
    """Bytes of all files in the spool; 0 keeps nothing, and events that do not fit are dropped and counted."""


class PageSettings(Group):
    """The page for people."""

    enabled: bool = False
    """Whether GET / answers with a page; it shows what users did, so for staging alone."""


class LoggingSettings(Group):
    """What is logged to standard output."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe level that is logged."""
    format: Literal["json", "console"] = "json"
    """One JSON object a line, or lines for people."""
    access: bool = True
    """Whether each request is logged, in one line; never successful probes and scrapes, and rankings too many."""
    buffer_bytes: int = Field(8 * 1024 * 1024, ge=16_384)
    """Bytes of log lines that wait for a slow reader; when it is full, new lines are dropped and counted."""


class Settings(BaseSettings):
    """All settings; made once, by the entry point, and passed on."""

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
    """How much one request may ask for, and how much may be asked at once."""
    redis: RedisSettings = RedisSettings()
    """Where behaviours are kept."""
    batching: BatchingSettings = BatchingSettings()
    """How much one batch may hold, and how much may wait for the next."""
    inference: InferenceSettings = InferenceSettings()
    """How models run."""
    bundles: BundlesSettings = BundlesSettings()
    """Where models come from."""
    experiments: ExperimentsSettings = ExperimentsSettings()
    """Who is served what."""
    streams: StreamsSettings = StreamsSettings()
    """Exposures and feedback on their way to Redis streams."""
    page: PageSettings = PageSettings()
    """The page for people."""
    logging: LoggingSettings = LoggingSettings()
    """What is logged to standard output."""

    @property
    def streams_address(self) -> RedisAddress:
        """Return where exposures and feedback go."""
        return parse_redis_url((self.streams.url or self.redis.url).get_secret_value())


def load_settings() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: a variable is unknown or has a value that cannot be used.
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
    except ValueError as error:  # pydantic-settings' own, which does not say which variable of the group it was
        raise SettingsError([f"{str(error).splitlines()[0][:200]}: a list is written as JSON, say [1,8]"]) from error


def passed_sockets() -> int:
    """Return how many listening sockets a service manager such as systemd has passed to this process (LISTEN_FDS)."""
    environment = os.environ  # noqa: TID251 - this is the one reader
    count = environment.get("LISTEN_FDS", "")
    return int(count) if environment.get("LISTEN_PID") == str(os.getpid()) and count.isdecimal() else 0


def unknown_names(environment: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the names of the environment's RANKER_ variables."""
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
    """Return every variable with the value in force; secrets are replaced, a URL keeps its host."""
    values: dict[str, str] = {}
    for name, _ in variables():
        group, _, field = name.removeprefix(PREFIX).lower().partition(DELIMITER)
        values[name] = _shown(field, getattr(getattr(settings, group), field))
    return values


def warnings(settings: Settings) -> list[str]:
    """Return what is allowed but unsafe, each with its variable."""
    found = [f"{PREFIX}REDIS__URL: {warning}" for warning in settings.redis.address.warnings]
    if settings.streams.enabled and settings.streams.url is not None:
        found += [f"{PREFIX}STREAMS__URL: {warning}" for warning in settings.streams_address.warnings]
    return found


def _is_foreign(name: str, value: str) -> bool:
    if DELIMITER in name:
        return False
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
