"""What a server is told at its start, checked as a whole.

Values only: no file is opened and no socket bound here.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from cascade.addresses import ANY_FORM, UNIX_PREFIX, is_loopback, split_address
from cascade.assignments import AUTO
from cascade.errors import InvalidRequest
from cascade.tuning.options import EngineOptions, parse_engine_options
from runtime_server.config.bounds import LEAST, check_at_least, check_one_of
from runtime_server.config.caller_weights import parse_caller_weights
from runtime_server.config.executor_kind import ExecutorKind, check_executor, check_most
from runtime_server.config.metrics_port import check_metrics
from runtime_server.config.row_caps import parse_caps
from runtime_server.config.setting_field import means
from runtime_server.telemetry.logs import LOG_LEVELS, LogLevel

Anonymous = Literal["auto", "allow", "refuse"]
ANONYMOUS_POLICIES: tuple[Anonymous, ...] = ("auto", "allow", "refuse")

MAX_SOCKET_PATH = 107
"""The kernel's limit on the path of a Unix socket, in bytes."""
Traces = Literal["off", "otlp", "stderr"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """One server: what it hosts, where it listens and what it allows.

    The text of a field is its help on the command line and in the manual; `settings` makes flags
    and the keys of the TOML file from the fields.
    """

    bundle: Path = field(metadata=means("Folder of the bundle."))
    listen: str = field(
        default="127.0.0.1:7860",
        metadata=means(
            "`host:port`, at every address that the host has (port 0 takes a free one), or "
            "`unix:PATH`."
        ),
    )
    cut: int = field(
        default=0,
        metadata=means("Host only the components from this position on; 0 hosts all."),
    )
    components: str = field(
        default="",
        metadata=means(
            "Host only these components, `NAME,...`; empty hosts all from `cut` on. The files of "
            "the others need not be there."
        ),
    )
    threads: int = field(
        default=0,
        metadata=means(
            "Threads of one engine run; 0 takes one per core that affinity and the control "
            "group allow."
        ),
    )
    engine: str = field(
        default=AUTO,
        metadata=means("What runs the graphs: `auto`, an engine's name, or `COMPONENT=NAME,...`."),
    )
    precision: str = field(
        default=AUTO,
        metadata=means(
            "What they compute in: `auto`, a precision's name, or `COMPONENT=NAME,...`."
        ),
    )
    executor: ExecutorKind = field(
        default="local",
        metadata=means(
            "Where the engines run: `local` in this process, `ray` in replicas of a Ray cluster."
        ),
    )
    replicas: int = field(
        default=0,
        metadata=means(
            "Processes with all hosted components, each on a device of its own; 0 takes one per "
            "GPU where `replica_gpus` is set, else one per machine of the cluster."
        ),
    )
    max_replicas: int = field(
        default=0,
        metadata=means(
            "Replicas while requests wait: one more after a second of waiting, one fewer after a "
            "minute in which fewer would do. 0: always `replicas`."
        ),
    )
    address: str = field(
        default="",
        metadata=means(
            "`host:port` of a running Ray cluster, or `auto` on one of its machines; empty starts "
            "one on this machine."
        ),
    )
    replica_gpus: float = field(
        default=0.0, metadata=means("GPUs that each replica reserves; without any it sees none.")
    )
    replica_silence_s: float = field(
        default=5.0,
        metadata=means(
            "A replica that answers nothing for so long, or for ten of its steps where that is "
            "longer, is replaced."
        ),
    )
    require_signature: Path | None = field(
        default=None,
        metadata=means(
            "PEM file with the public key that must have signed the bundle, see `cascade sign`."
        ),
    )
    warm_up: bool = field(
        default=True,
        metadata=means(
            "Run one synthetic step through every component before listening, so that no request "
            "waits for what an engine does only once, and a graph that cannot run is found."
        ),
    )
    max_queued_per_stage: int = field(
        default=16,
        metadata=means(
            "A request whose first component has so many waiting is refused as `ServerBusy`."
        ),
    )
    max_in_flight: int = field(
        default=64,
        metadata=means(
            "Requests admitted and not yet delivered; bounds the memory that slow readers cost."
        ),
    )
    refuse_late: bool = field(
        default=True,
        metadata=means(
            "Refuse at once what cannot meet its deadline, as far as step times are known."
        ),
    )
    max_running: int = field(
        default=8,
        metadata=means(
            "Requests inside components at once, each with a thread and a picture in the making."
        ),
    )
    max_waiting_between: int = field(
        default=2,
        metadata=means(
            "Backpressure between stages: while more requests than this wait for the next "
            "component, none starts the one before it."
        ),
    )
    max_batch_rows: str = field(
        default=AUTO,
        metadata=means(
            "Rows that share a run: `auto` (measured once it listens), a number, or "
            "`COMPONENT=N,...`."
        ),
    )
    max_batch_bytes: int = field(
        default=256 << 20,
        metadata=means("Inputs and outputs of one shared run; a row larger than that runs alone."),
    )
    turn_after_s: float = field(
        default=30.0,
        metadata=means(
            "Default deadline for earliest-deadline-first scheduling, counted from the arrival."
        ),
    )
    caller_weights: str = field(
        default="",
        metadata=means(
            "Weighted fair queueing: `CALLER=WEIGHT,...`; a caller that is not named has weight 1."
        ),
    )
    context_store_bytes: int = field(
        default=64 << 20,
        metadata=means("Embeddings kept for later requests; the least recently used go first."),
    )
    context_lifetime_s: float = field(
        default=600.0,
        metadata=means("Embeddings unused for so long are forgotten."),
    )
    max_in_flight_bytes: int = field(
        default=256 << 20,
        metadata=means(
            "Embeddings, pictures and results to come of all requests inside, together; a "
            "request over it is refused as `ServerBusy`."
        ),
    )
    max_in_flight_per_identity: int = field(
        default=32,
        metadata=means("Requests of one caller that may be inside at once."),
    )
    result_store_bytes: int = field(
        default=64 << 20,
        metadata=means(
            "Results of finished requests, kept for repeated calls; the least recently used go "
            "first."
        ),
    )
    result_lifetime_s: float = field(
        default=600.0,
        metadata=means("Results that no call asked for are forgotten after so long."),
    )
    max_linger_s: float = field(
        default=30.0,
        metadata=means(
            "Longest time that work goes on for a caller who lost its connection and did not "
            "detach."
        ),
    )
    reader_patience_s: float = field(
        default=60.0,
        metadata=means(
            "Slow-consumer timeout: a stream on which the client reads nothing for this long is "
            "closed; its result is kept as any other."
        ),
    )
    tls_cert: Path | None = field(
        default=None,
        metadata=means("PEM file with the certificate chain; together with `tls_key`."),
    )
    tls_key: Path | None = field(default=None, metadata=means("PEM file with the private key."))
    tls_client_ca: Path | None = field(
        default=None,
        metadata=means(
            "PEM file with the authorities of client certificates, which are then required; the"
            " certificate's name is the caller's."
        ),
    )
    token_keys: Path | None = field(
        default=None,
        metadata=means(
            'TOML file of `name = "sha256 of a token"`, see `cascade token`; a token is then '
            "required."
        ),
    )
    jwt_keys: Path | None = field(
        default=None,
        metadata=means(
            "JWK set, or with `jwt_algorithm` a PEM public key or a secret; a token is then "
            "required."
        ),
    )
    jwt_algorithm: str = field(
        default="",
        metadata=means(
            "The algorithm of a single key in `jwt_keys`; in a JWK set every key carries its own."
        ),
    )
    jwt_audience: str = field(
        default="",
        metadata=means("What the `aud` of a JWT must be or hold."),
    )
    jwt_issuer: str = field(
        default="",
        metadata=means("What the `iss` of a JWT must be; empty accepts any."),
    )
    anonymous: Anonymous = field(
        default="auto",
        metadata=means(
            "Unauthenticated access: `auto` allows it on this machine as long as neither tokens "
            "nor client certificates are configured."
        ),
    )
    health_auth: bool = field(
        default=False,
        metadata=means("Require credentials for health checks too."),
    )
    quota_megapixels_per_minute: float = field(
        default=0.0,
        metadata=means(
            "What each caller may have made: pixels of every step of every stage, in millions; "
            "a picture of the reference bundle takes a few. 0 is no limit."
        ),
    )
    offer_bundle: bool = field(
        default=False,
        metadata=means("Let callers download the files of the bundle, see `cascade bundle pull`."),
    )
    max_bundle_downloads: int = field(
        default=4,
        metadata=means(
            "Downloads of bundle files at once, of all callers; one more is refused as "
            "`ServerBusy`."
        ),
    )
    bundle_megabytes_per_s: float = field(
        default=100.0,
        metadata=means("Fastest that one download of a bundle file goes; 0 is no limit."),
    )
    http: str = field(
        default="",
        metadata=means(
            "`host:port` of an HTTP API for programs that speak OpenAI's images API; empty is "
            "none. TLS, callers, quotas and limits are those of gRPC."
        ),
    )
    insecure: bool = field(default=False, metadata=means("Allow plaintext beyond this machine."))
    reflection: bool = field(
        default=False,
        metadata=means("Answer gRPC reflection, for tools such as grpcurl."),
    )
    metrics_listen: str = field(
        default="",
        metadata=means(
            "`host:port` of plain HTTP for /livez, /readyz, /metrics and POST /reload; empty is"
            " none."
        ),
    )
    metrics_remote: bool = field(
        default=False,
        metadata=means(
            "Allow that port beyond this machine, for scrapers; /reload stays for this machine "
            "alone."
        ),
    )
    stage_failures_in_row: int = field(
        default=3,
        metadata=means(
            "Circuit breaker: a component that failed this often in a row is NOT_SERVING until "
            "a synthetic probe or a request succeeds."
        ),
    )
    stage_probe_s: float = field(
        default=5.0,
        metadata=means("Time between two trials of a component that is NOT_SERVING."),
    )
    drain_grace_s: float = field(
        default=30.0,
        metadata=means(
            "Time that requests in flight get to finish when the server is asked to stop."
        ),
    )
    until_stdin_closes: bool = field(
        default=False,
        metadata=means("Also stop at the end of standard input."),
    )
    log_level: LogLevel = field(default="info", metadata=means("Least severity that is logged."))
    log_prompts: bool = field(
        default=False,
        metadata=means(
            "Log the prompt of every request, beside its id; otherwise no line ever holds one."
        ),
    )
    traces: Traces = field(
        default="off",
        metadata=means(
            "OpenTelemetry spans: `otlp` sends them where the variables OTEL_EXPORTER_OTLP_... "
            "say, `stderr` writes them as lines of JSON."
        ),
    )

    def __post_init__(self) -> None:
        """Refuse values that could only fail later."""
        for name, least in LEAST.items():
            check_at_least(name, getattr(self, name), least)
        check_components(self)
        parse_engine_options(self.engine, self.precision)
        parse_caps(self.max_batch_rows)
        parse_caller_weights(self.caller_weights)
        check_one_of("log_level", self.log_level, LOG_LEVELS)
        check_one_of("traces", self.traces, get_args(Traces))
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidRequest("TLS needs both --tls-cert and --tls-key", field="tls_cert")
        if not (self.is_local or self.tls_cert is not None or self.insecure):
            raise InvalidRequest(
                f"{self.listen} is reachable from other machines and would be plaintext: give "
                "--tls-cert and --tls-key, or --insecure if something in front encrypts",
                field="listen",
            )
        if self.insecure and self.tls_cert is not None:
            raise InvalidRequest(
                "insecure: it allows plaintext, and --tls-cert encrypts: leave one of them out",
                field="insecure",
            )
        check_most("max_replicas", self.max_replicas, self.replicas)
        check_executor(
            self.executor,
            replicas=self.replicas, max_replicas=self.max_replicas, address=self.address,
            replica_gpus=self.replica_gpus,
        )  # fmt: skip
        check_http(self)
        check_access(self)
        check_metrics(self.metrics_listen, is_remote=self.metrics_remote)

    @property
    def component_names(self) -> tuple[str, ...]:
        """The components that `components` names; none where `cut` decides."""
        return tuple(name for name in self.components.split(",") if name)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server's gRPC port."""
        return self.socket_path is not None or is_loopback(
            split_address(self.listen, "listen", ANY_FORM)[0]
        )

    @property
    def http_is_local(self) -> bool:
        """Whether only this machine can reach the HTTP door, or nobody as there is none."""
        return not self.http or is_loopback(split_address(self.http, "http")[0])

    @property
    def callers_are_named(self) -> bool:
        """Whether there is any way for callers to say who they are."""
        return any((self.tls_client_ca, self.token_keys, self.jwt_keys))

    @property
    def anonymous_allowed(self) -> bool:
        """Whether callers without credentials are let in."""
        if self.anonymous == "auto":
            return self.is_local and self.http_is_local and not self.callers_are_named
        return self.anonymous == "allow"

    @property
    def engine_options(self) -> EngineOptions:
        """Engine, precision and threads as one value."""
        return parse_engine_options(self.engine, self.precision, self.threads)

    @property
    def socket_path(self) -> Path | None:
        """Path of the Unix socket, None for TCP."""
        if not self.listen.startswith(UNIX_PREFIX):
            return None
        path = self.listen.removeprefix(UNIX_PREFIX)
        if not path or len(path.encode()) > MAX_SOCKET_PATH or "\0" in path:
            raise InvalidRequest(
                f"listen: the path of a Unix socket has 1 to {MAX_SOCKET_PATH} bytes, got "
                f"{path[:120]!r}",
                field="listen",
            )
        return Path(path)


def check_components(config: ServerConfig) -> None:
    """Raise `InvalidRequest` where the choice of components is no list, or is made twice."""
    if config.components and "" in config.components.split(","):
        raise InvalidRequest(
            f"components: expected NAME,..., got {config.components[:80]!r}", field="components"
        )
    if config.components and config.cut:
        raise InvalidRequest(
            "components: it names what is hosted, and so does --cut: leave one of them out",
            field="components",
        )


def check_http(config: ServerConfig) -> None:
    """Refuse an HTTP door that other machines reach in plaintext, unless the operator says so."""
    if not (config.http_is_local or config.tls_cert is not None or config.insecure):
        raise InvalidRequest(
            f"http: {config.http} is reachable from other machines and would be plaintext: give "
            "--tls-cert and --tls-key, or --insecure if something in front encrypts",
            field="http",
        )


def check_access(config: ServerConfig) -> None:
    """Raise `InvalidRequest` where the choices about callers contradict each other."""
    if config.anonymous not in ANONYMOUS_POLICIES:
        raise InvalidRequest(
            f"anonymous: expected auto, allow or refuse, got {config.anonymous!r}",
            field="anonymous",
        )
    if config.tls_client_ca is not None and config.tls_cert is None:
        raise InvalidRequest(
            "tls_client_ca: client certificates need TLS; give --tls-cert and --tls-key",
            field="tls_client_ca",
        )
    if config.jwt_keys is not None and not config.jwt_audience:
        raise InvalidRequest(
            "jwt_audience: name this server's audience, or tokens made for others are accepted",
            field="jwt_audience",
        )
    if config.jwt_keys is None and (
        config.jwt_algorithm or config.jwt_audience or config.jwt_issuer
    ):
        raise InvalidRequest("jwt_keys: the rules for JWT need keys", field="jwt_keys")
    if config.health_auth and config.anonymous_allowed:
        raise InvalidRequest(
            "health_auth: wants credentials where callers need none: give --token-keys, --jwt-keys "
            "or --tls-client-ca, and not --anonymous allow",
            field="health_auth",
        )
    if not (config.callers_are_named or config.anonymous_allowed):
        raise InvalidRequest(
            f"anonymous: nobody could call {config.listen}: give --token-keys, --jwt-keys or "
            "--tls-client-ca, or --anonymous allow to let everybody in",
            field="anonymous",
        )
