"""How a client works, as one frozen value: where the server is, where the cut lies.

Checked when made, so that a mistake shows before any work. Knows no bundle: whether cut and
placement fit its components, the client checks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cascade.addresses import ANY_FORM, UNIX_PREFIX, is_loopback, split_address
from cascade.assignments import AUTO
from cascade.errors import InvalidRequest
from cascade.system.bounded_files import read_setting
from cascade.tuning.options import EngineOptions, parse_engine_options
from runtime_client.credentials import check_token
from runtime_client.placement import HERE, THERE, Hop
from runtime_client.wish import Wish
from wire.limits import MAX_LINGER_S

Fallback = Literal["error", "local"]
FALLBACKS: tuple[Fallback, ...] = ("error", "local")
PictureFormat = Literal["auto", "raw", "webp", "png", "webp90", "jpeg", "avif"]
PICTURE_FORMATS: tuple[PictureFormat, ...] = (
    "auto", "raw", "webp", "png", "webp90", "jpeg", "avif",
)  # fmt: skip
LOSSY_FORMATS: tuple[PictureFormat, ...] = ("avif", "webp90", "jpeg")
"""The one with the least loss first, as `benchmarks.picture_formats` measures it."""
DEFAULT_CUT = 2
DEFAULT_TIMEOUT_S = 300.0
MAX_TIMEOUT_S = 7 * 24 * 3600.0
"""Systems cannot wait for any number of seconds: some clocks overflow at 2^31 or 2^63 ns."""
DEFAULT_LINGER_S = 5.0
DEFAULT_WAIT_S = 1.0
DEFAULT_DEAD_LINK_S = 15.0
LEAST_DEAD_LINK_S, MOST_DEAD_LINK_S = 0.1, 600.0
MAX_THREADS = 1024
PEM = b"-----BEGIN "
MAX_PEM_BYTES = 8 << 20
"""Of a file of certificates: those of a whole system are a few hundred KiB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientConfig:
    """Choices of one client."""

    server: str | None = None
    """`host:port` or `unix:PATH`; None starts a private server where the cut needs one."""
    cut: int | Literal["auto"] = DEFAULT_CUT
    """How many components run here; the number of components means that no server is needed.
    `auto` chooses for each request what `wish` asks for, and runs everything here where no server
    is named."""
    placement: Mapping[str, str] | Literal["auto"] | None = None
    """Where each component runs, by name: `here`, `there` (on `server`, or the private one), or the
    address of another server; `*` places every component that is not named. `auto` chooses as for
    `cut`, among all mixtures of `here` and `there`. None lets `cut` decide, which is otherwise not
    read. TLS and token are the same for every server."""
    wish: Wish = field(default_factory=Wish)
    """What `auto` chooses by: the least time unless it says otherwise. Its `within_s` also chooses
    the format of pictures, where `chooses_format` says so."""
    works_ahead: bool = True
    """With `auto`, whether this client opens components and measures its link between requests."""
    threads: int = 0
    """Threads of one engine run here; 0 takes one per core."""
    engine: str = AUTO
    """What runs the graphs here and on a private server: `auto`, an engine's name, or
    `COMPONENT=NAME,...`."""
    precision: str = AUTO
    """What they compute in: `auto`, a precision's name, or `COMPONENT=NAME,...`. Unless it is
    `auto`, a server that computes otherwise is refused."""
    fallback: Fallback = "error"
    """What to do when the server is gone, has no room, or is not done while the rest could still
    run here in time: raise, or run the rest here."""
    timeout_s: float = DEFAULT_TIMEOUT_S
    """Longest time for one request, start of a private server included."""
    wait_s: float = DEFAULT_WAIT_S
    """How long `server` is tried again before its first answer: longer where it may still be
    starting. Bounded by `timeout_s`."""
    linger_s: float = DEFAULT_LINGER_S
    """How long a server reached over a network works on when the connection is lost, so that the
    request can be resumed; 0 resumes nothing. The server may allow less."""
    dead_link_s: float = DEFAULT_DEAD_LINK_S
    """A connection on which nothing comes, not even the answer to a ping, is given up after so long
    while a call is open. Servers close connections that ping more often than every 5 s, which is
    two thirds of it."""
    picture_format: PictureFormat = "auto"
    """How a server sends pictures: `auto` takes raw pixels from a server on this machine, else WebP
    without loss; with a wish of `within_s`, a format with loss where no other is in time. Behind a
    tunnel that ends here name `webp`. `webp90`, `jpeg` and `avif` lose pixels, and are only used
    for what no further component begins with."""
    tls: bool = False
    """Encrypt the connection to `server`."""
    ca_file: Path | None = None
    """PEM file with the authorities to trust; None trusts those of the system."""
    client_cert: Path | None = None
    """PEM file with this client's certificate, for servers that want one; with `client_key`."""
    client_key: Path | None = None
    """PEM file with its private key."""
    tls_name: str = ""
    """Host that the server's certificate must name, where `server` is the address of a tunnel or of
    a proxy that passes bytes on; empty is the host of `server`."""
    require_signature: Path | None = None
    """PEM file with the public key that must have signed the bundle, here and on a private
    server; see `cascade sign`."""
    token: str = field(default="", repr=False)
    """Sent to `server` as `authorization: Bearer TOKEN`."""
    token_file: Path | None = None
    """File with the token instead; read for every call, so that it may be replaced."""
    token_over_plaintext: bool = False
    """Send the token unencrypted to another machine too."""
    engine_options: EngineOptions = field(init=False, repr=False, compare=False)
    """Engine, precision and threads as one value, parsed once."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of every server that is named, each once."""
        placed = (self.placed or {}).values()
        named = [self.server, *(place for place in placed if place not in (HERE, THERE))]
        return tuple(dict.fromkeys(address for address in named if address is not None))

    @property
    def is_auto(self) -> bool:
        """Whether each request's placement is chosen for it."""
        return AUTO in (self.cut, self.placement)

    @property
    def chooses_format(self) -> bool:
        """Whether pictures may lose pixels on their way where they would else be late.

        Nowhere else does a client choose a format with loss by itself. With `fallback` the rest
        might begin with such a picture, and of several servers the link of one alone is measured.
        """
        return (
            self.wish.within_s is not None
            and self.picture_format == "auto"
            and self.server is not None
            and self.fallback == "error"
            and self.addresses == (self.server,)
        )

    @property
    def placed(self) -> Mapping[str, str] | None:
        """The placement by name; None where a cut says it, or it is chosen."""
        return None if self.placement is None or isinstance(self.placement, str) else self.placement

    def __post_init__(self) -> None:
        """Check every choice on its own."""
        check_choice(self)
        if not 0 <= self.threads <= MAX_THREADS:
            raise InvalidRequest(
                f"threads: expected 0 to {MAX_THREADS}, got {self.threads}", field="threads"
            )
        options = parse_engine_options(self.engine, self.precision, self.threads)
        object.__setattr__(self, "engine_options", options)
        if self.fallback not in FALLBACKS:
            raise InvalidRequest(
                f"fallback: expected error or local, got {self.fallback!r}", field="fallback"
            )
        check_picture_format(self)
        if not 0 < self.timeout_s <= MAX_TIMEOUT_S:
            raise InvalidRequest(
                f"timeout_s: expected more than 0 seconds and at most {MAX_TIMEOUT_S:.0f} "
                f"(a week), got {self.timeout_s:g}",
                field="timeout_s",
            )
        if not 0 <= self.wait_s <= MAX_TIMEOUT_S:
            raise InvalidRequest(
                f"wait_s: expected 0 to {MAX_TIMEOUT_S:.0f} seconds, got {self.wait_s:g}",
                field="wait_s",
            )
        if not 0 <= self.linger_s <= MAX_LINGER_S:
            raise InvalidRequest(
                f"linger_s: expected 0 to {MAX_LINGER_S:g} seconds, got {self.linger_s}",
                field="linger_s",
            )
        if not LEAST_DEAD_LINK_S <= self.dead_link_s <= MOST_DEAD_LINK_S:
            raise InvalidRequest(
                f"dead_link_s: expected {LEAST_DEAD_LINK_S:g} to {MOST_DEAD_LINK_S:g} seconds, got "
                f"{self.dead_link_s}",
                field="dead_link_s",
            )
        if self.server is not None:
            check_address(self.server)
        check_places(self.placed or {})
        check_security(self)


def check_choice(config: ClientConfig) -> None:
    """Raise `InvalidRequest` unless cut, placement and wish go together."""
    if isinstance(config.cut, str) and config.cut != AUTO:
        raise InvalidRequest(
            f"cut: expected 0 or more, or {AUTO}, got {config.cut!r:.80}", field="cut"
        )
    if isinstance(config.cut, int) and config.cut < 0:
        raise InvalidRequest(f"cut: expected 0 or more, got {config.cut}", field="cut")
    if isinstance(config.placement, str) and config.placement != AUTO:
        raise InvalidRequest(
            f"placement: expected places by name, or {AUTO}, got {config.placement!r:.80}",
            field="placement",
        )
    only_within = config.wish == Wish(within_s=config.wish.within_s)
    is_used = config.is_auto or (only_within and config.chooses_format)
    if config.wish != Wish() and not is_used:
        raise InvalidRequest(
            f"wish: it chooses where cut or placement is {AUTO}, and within_s alone also where the "
            "pictures of one named server may lose pixels, picture_format being "
            f"{AUTO} and fallback error; set one of them, or leave it out",
            field="wish",
        )


def check_address(address: str, field: str = "server") -> None:
    """Raise `InvalidRequest` unless the address is `host:port` or `unix:PATH`."""
    if address.startswith(UNIX_PREFIX) and address != UNIX_PREFIX:
        return
    _, port = split_address(address, field, ANY_FORM)
    if port == 0:
        raise InvalidRequest(f"{field}: expected {ANY_FORM}, got {address!r}", field=field)


def check_picture_format(config: ClientConfig) -> None:
    """Raise `InvalidRequest` for a format that is none, or that loses what a fallback needs."""
    if config.picture_format not in PICTURE_FORMATS:
        raise InvalidRequest(
            f"picture_format: expected {', '.join(PICTURE_FORMATS)}, got {config.picture_format!r}",
            field="picture_format",
        )
    if config.picture_format in LOSSY_FORMATS and config.fallback == "local":
        raise InvalidRequest(
            f"picture_format: {config.picture_format} loses pixels, and with fallback local the "
            "rest would begin with such a picture: choose webp, or leave fallback out",
            field="picture_format",
        )
    if config.picture_format in LOSSY_FORMATS and config.is_auto:
        raise InvalidRequest(
            f"picture_format: {config.picture_format} loses pixels of what a server makes, and "
            f"with {AUTO} that differs from request to request: choose webp, or give the cut",
            field="picture_format",
        )


def check_places(placement: Mapping[str, str]) -> None:
    """Raise `InvalidRequest` for a place that is none."""
    if "" in placement:
        raise InvalidRequest("placement: a component has no name", field="placement")
    for place in placement.values():
        if place not in (HERE, THERE):
            check_address(place, "placement")


def check_security(config: ClientConfig) -> None:
    """Raise `InvalidRequest` where the TLS choices contradict each other."""
    if config.ca_file is not None and not config.tls:
        raise InvalidRequest("ca_file: it is only used with tls; add it", field="ca_file")
    if config.tls and not config.addresses:
        raise InvalidRequest(
            "tls: the private server needs none; name a server or leave tls out", field="tls"
        )
    if config.tls_name and not config.tls:
        raise InvalidRequest("tls_name: it is only used with tls; add it", field="tls_name")
    if (config.client_cert is None) != (config.client_key is None):
        raise InvalidRequest("client_cert: it goes together with client_key", field="client_cert")
    if config.client_cert is not None and not config.tls:
        raise InvalidRequest("client_cert: it is only used with tls; add it", field="client_cert")
    for name in ("ca_file", "client_cert", "client_key"):
        path: Path | None = getattr(config, name)
        if path is not None and not path.is_file():
            raise InvalidRequest(f"{name}: {path} is not a file", field=name)
        if path is not None and PEM not in read_setting(path, name, MAX_PEM_BYTES):
            # gRPC says nothing of it, and tries to connect until the time is over.
            raise InvalidRequest(f"{name}: {path} is no PEM file", field=name)
    check_token_use(config)


def check_token_use(config: ClientConfig) -> None:
    """Raise `InvalidRequest` where the token would go to nobody, or be readable on its way."""
    if config.token:
        check_token(config.token, "token")
    if config.token and config.token_file is not None:
        raise InvalidRequest("token: give it or token_file, not both", field="token")
    if not config.token and config.token_file is None:
        if config.token_over_plaintext:
            raise InvalidRequest(
                "token_over_plaintext: there is no token to send; give one or leave it out",
                field="token_over_plaintext",
            )
        return
    if not config.addresses:
        raise InvalidRequest(
            "token: the private server needs none; name a server or leave it out", field="token"
        )
    for address in config.addresses:
        if not (config.tls or config.token_over_plaintext or is_on_this_machine(address)):
            raise InvalidRequest(
                f"token: the connection to {address} is not encrypted and everybody on the way "
                "could read it; use tls, or token_over_plaintext if something else encrypts",
                field="token",
            )


def is_on_this_machine(address: str) -> bool:
    """Whether bytes to that address stay here: compressing pictures would cost more than it saves.

    Args:
        address: as in `ClientConfig.server`.
    """
    if address.startswith(UNIX_PREFIX):
        return True
    return is_loopback(split_address(address, "server")[0])


def check_leaves_work(config: ClientConfig, last: Hop) -> None:
    """Raise `InvalidRequest` unless a server of its own makes the end of a request.

    Args:
        config: of the client.
        last: the last components of the request.
    """
    if not config.addresses or (last.place == THERE and config.server is None):
        raise InvalidRequest(
            "server: a private server ends with its client; name one that stays", field="server"
        )
    if last.is_here and config.placement is not None:
        raise InvalidRequest(
            "placement: the last component of this request runs here; place it on a server",
            field="placement",
        )
    if last.is_here:
        raise InvalidRequest(
            f"cut: with {config.cut} nothing of this request runs on the server; lower it",
            field="cut",
        )
