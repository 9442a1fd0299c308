"""Whether a server answers, is ready and fits, for `cascade doctor`.

One step after another, as a request would: connection, TLS, handshake, readiness, versions, bundle,
components, token. What a step finds wrong ends the list: the rest would only repeat it.
"""

import base64
import json
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade import __version__
from cascade.bundle.bundle import Bundle
from cascade.diagnosis.findings import Finding, Level, Topic
from cascade.diagnosis.shell import quoted
from cascade.errors import (
    BundleMismatch,
    CascadeError,
    InvalidRequest,
    PermissionDenied,
    Unauthenticated,
)
from runtime_client.cli.tls_probe import Handshake, Trouble, connected, shake_hands, speaks_tls
from runtime_client.config import DEFAULT_CUT, ClientConfig, is_on_this_machine
from runtime_client.credentials import BearerToken
from runtime_client.remote.server_link import check_fits
from runtime_client.remote.transport import Security, Transport
from wire.server_info import ServerInfo, decode_info, encode_info_request
from wire.service import GET_SERVER_INFO, WIRE_VERSION

SERVER = Topic("server")
HEALTH = "/grpc.health.v1.Health/Check"
"""https://github.com/grpc/grpc/blob/master/doc/health-checking.md: an empty request asks for the
whole server, and a response whose field 1 is the enumeration's 1 says SERVING."""
SERVING = b"\x08\x01"
SOON_S = 14 * 24 * 3600.0
"""A certificate that ends so soon is worth a warning."""
CLOCK_SLACK_S = 10.0
"""Clocks may differ by as much; a server allows the same (`runtime_server.auth.jwt_tokens`)."""
PAUSE_S = 0.2
"""Between two attempts to connect."""
MAX_CLAIMS = 64 << 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What `cascade doctor` was asked about a server."""

    config: ClientConfig
    """The server and how it is reached."""
    folder: Path | None
    """Of the bundle, as it was named; None for the default."""
    bundle: Bundle | None
    """Of this side; None where it has none."""

    @property
    def address(self) -> str:
        """Of the server."""
        return self.config.server or ""

    def command(self, *flags: str, tls: bool = True) -> str:
        """This very command with other flags besides; a token is never part of it."""
        config = self.config
        given = [] if self.folder is None else [quoted(self.folder)]
        given += ["--server", shlex.quote(self.address)]
        given += ["--tls"] if config.tls and tls else []
        for name in ("ca", "client-cert", "client-key", "token-file"):
            path = getattr(config, "ca_file" if name == "ca" else name.replace("-", "_"))
            if path is not None and tls and f"--{name}" not in " ".join(flags).split():
                given += [f"--{name}", quoted(path)]
        return " ".join(["cascade doctor", *given, *flags])


def server_findings(asked: Asked) -> Iterator[Finding]:
    """Everything that can be known of a server without a request."""
    config = asked.config
    try:
        spent_ms = connect_ms(asked)
    except OSError as exc:
        yield unreachable(asked, exc)
        return
    words = f"{asked.address} accepts connections, after {spent_ms:.1f} ms"
    yield SERVER.ok("connection", words, connect_ms=round(spent_ms, 3))
    if config.tls:
        finding = of_handshake(asked, shake_hands(config))
        yield finding
        if finding.level is Level.ERROR:
            return
    else:
        yield SERVER.ok("tls", "none: this side does not encrypt", encrypted=False)
    yield from of_token(asked)
    transport = Transport(asked.address, security_of(config))
    try:
        yield from of_calls(asked, transport)
    finally:
        transport.close()


def connect_ms(asked: Asked) -> float:
    """Milliseconds of one connection; a server that is not there is tried again for `wait_s`.

    Raises:
        OSError: it did not come.
    """
    give_up = time.monotonic() + asked.config.wait_s
    while True:
        begun = time.perf_counter()
        try:
            connected(asked.address, asked.config.timeout_s).close()
        except OSError:
            if time.monotonic() + PAUSE_S > give_up:
                raise
            time.sleep(PAUSE_S)
        else:
            return 1000 * (time.perf_counter() - begun)


def of_calls(asked: Asked, transport: Transport) -> Iterator[Finding]:
    """What the server answers."""
    config = asked.config
    call = encode_info_request()
    try:
        info = decode_info(transport.unary(GET_SERVER_INFO, call, timeout_s=config.timeout_s))
        # The first call has paid for the connection.
        begun = time.perf_counter()
        transport.unary(GET_SERVER_INFO, call, timeout_s=config.timeout_s)
        spent_ms = 1000 * (time.perf_counter() - begun)
    except CascadeError as exc:
        yield of_refusal(asked, exc)
        return
    words = f"answers within {spent_ms:.1f} ms; it runs edge-cascade {info.software_version[:40]}"
    facts = {"call_ms": round(spent_ms, 3), "version": info.software_version[:40]}
    yield SERVER.ok("answer", words, **facts)
    yield of_health(config, transport)
    yield from of_fit(asked, info)
    yield from of_components(info)


def security_of(config: ClientConfig) -> Security:
    """How calls are protected."""
    return Security(
        tls=config.tls,
        ca_file=config.ca_file,
        client_cert=config.client_cert,
        client_key=config.client_key,
        token=BearerToken(token=config.token, file=config.token_file),
    )


def unreachable(asked: Asked, error: OSError) -> Finding:
    """Nothing accepts connections there."""
    why = error.strerror or "no answer in time"
    command = f"cascade serve --listen {shlex.quote(asked.address)}"
    here = is_on_this_machine(asked.address)
    remedy = command if here else f"# on that machine: {command}; then look for a firewall between"
    return SERVER.failure("connection", f"{asked.address} cannot be reached: {why}", remedy)


def of_handshake(asked: Asked, found: Handshake) -> Finding:
    """The state of TLS."""
    if found.trouble is Trouble.NONE:
        return of_certificate(found)
    words = f"{found.trouble} ({found.detail})" if found.detail else str(found.trouble)
    facts = {"trouble": found.trouble.name.lower()}
    return SERVER.failure("tls", words, handshake_remedy(asked, found.trouble), **facts)


def handshake_remedy(asked: Asked, trouble: Trouble) -> str:
    """What mends a failed handshake."""
    if trouble is Trouble.PLAINTEXT:
        return asked.command(tls=False)
    if trouble is Trouble.UNTRUSTED and asked.config.ca_file is None:
        return asked.command("--ca", "AUTHORITY.pem")
    if trouble is Trouble.CLIENT_CERTIFICATE:
        return asked.command("--client-cert", "CERTIFICATE.pem", "--client-key", "KEY.pem")
    if trouble is Trouble.FILES:
        path = asked.config.client_cert or asked.config.ca_file or Path("FILE.pem")
        return f"openssl x509 -noout -subject -dates -in {quoted(path)}"
    # Who signed it, for which names, and until when.
    return f"openssl s_client -connect {shlex.quote(asked.address)} -showcerts </dev/null"


def of_certificate(found: Handshake) -> Finding:
    """A certificate that was accepted, and for how long it will be."""
    names = ", ".join(found.names[:4])
    left_s = found.expires_at - time.time()
    until = time.strftime("%Y-%m-%d", time.gmtime(found.expires_at))
    words = f"{found.version}, certificate for {names}, valid until {until}"
    facts = {"encrypted": True, "version": found.version, "expires_at": found.expires_at}
    if left_s < SOON_S:
        days = f"in {left_s / 86400:.1f} days"
        remedy = "# renew the certificate on the server; it is read again without a restart"
        return SERVER.warning("tls", f"{words}: it ends {days}", remedy, **facts)
    return SERVER.ok("tls", words, **facts)


def of_refusal(asked: Asked, error: CascadeError) -> Finding:
    """A call that failed, and what to do."""
    words = str(error)
    if isinstance(error, Unauthenticated):
        remedy = asked.command("--token-file", "TOKEN.txt")
    elif isinstance(error, PermissionDenied):
        remedy = "# ask the operator of the server for access for this caller"
    elif isinstance(error, InvalidRequest):
        return SERVER.error("answer", words, "cascade doctor --help", reason=error.reason)
    elif not asked.config.tls and speaks_tls(asked.config):
        words = "the server speaks TLS, and this call was not encrypted"
        remedy = asked.command("--tls")
    else:
        remedy = "# look into the log of the server: its last lines are JSON, one event each"
    return SERVER.failure("answer", words, remedy, reason=error.reason)


def of_health(config: ClientConfig, transport: Transport) -> Finding:
    """Whether the server takes requests."""
    try:
        reply = transport.unary(HEALTH, b"", timeout_s=config.timeout_s)
    except CascadeError as exc:
        return SERVER.ok("ready", f"it does not tell: {exc}", ready=None)
    if reply == SERVING:
        return SERVER.ok("ready", "it takes requests", ready=True)
    return SERVER.failure(
        "ready", "it takes no requests now: it drains or a component fails",
        "# look into the log of the server, or ask its operator's port: curl HOST:PORT/readyz",
        ready=False,
    )  # fmt: skip


def of_fit(asked: Asked, info: ServerInfo) -> Iterator[Finding]:
    """Version of the wire and id of the bundle."""
    bundle = asked.bundle
    facts = {"theirs": info.wire_version, "ours": WIRE_VERSION}
    if info.wire_version != WIRE_VERSION:
        older = "the server" if info.wire_version < WIRE_VERSION else "this client"
        yield SERVER.failure(
            "wire", f"version {info.wire_version} there, {WIRE_VERSION} here",
            f"# update {older}; here is edge-cascade {__version__}", **facts,
        )  # fmt: skip
    else:
        yield SERVER.ok("wire", f"version {WIRE_VERSION} on both sides", **facts)
    theirs = info.bundle_ids[0] if info.bundle_ids else info.bundle_id
    known = {"name": info.bundle_name[:40], "id": theirs}
    held = f"{info.bundle_name[:40]}, id {theirs[:12]}"
    if bundle is None:
        yield SERVER.ok("bundle", f"{held}; there is none here to compare it with", **known)
        return
    try:
        check_fits(info, bundle.manifest.ids)
    except BundleMismatch:
        yield SERVER.failure(
            "bundle", f"{held}, and here {bundle.manifest.name}, id {bundle.bundle_id[:12]}: name "
            "the folder of the server's bundle", f"cascade doctor BUNDLE --server "
            f"{shlex.quote(asked.address)}", **known,
        )  # fmt: skip
    except CascadeError:
        return
    else:
        yield SERVER.ok("bundle", f"{held}, the same as here", **known)


def of_components(info: ServerInfo) -> Iterator[Finding]:
    """What the server hosts, and which cuts that allows."""
    hosted = sorted(info.components, key=lambda component: component.position)
    shown = "; ".join(
        f"{c.position} {c.name}: {c.engine} {c.precision} on {c.device}" for c in hosted
    )
    cut = min((c.position for c in hosted), default=0)
    facts = {"names": [c.name for c in hosted], "least_cut": cut}
    yield SERVER.ok("components", shown or "none", **facts)
    if cut > DEFAULT_CUT:
        yield SERVER.warning(
            "cut", f"it hosts nothing before component {cut}: the default, --cut {DEFAULT_CUT}, "
            "does not work", f"cascade generate PROMPT -o a.png --cut {cut} --server ADDRESS",
            least_cut=cut,
        )  # fmt: skip
    guessed = [c.name for c in hosted if not c.tuned]
    if guessed:
        yield SERVER.warning(
            "tuned", f"its engines were chosen unmeasured: {', '.join(guessed)}; measure on that "
            "machine and start the server again", "cascade tune",
            untuned=guessed,
        )  # fmt: skip


def of_token(asked: Asked) -> Iterator[Finding]:
    """Whether the token, if it tells, is valid by the clock of this machine."""
    config = asked.config
    try:
        ((_, value),) = BearerToken(token=config.token, file=config.token_file).metadata() or (
            ("", ""),
        )
    except InvalidRequest as exc:
        remedy = f"ls -l {quoted(config.token_file)}" if config.token_file else "cascade doctor -h"
        yield SERVER.error("token", str(exc), remedy)
        return
    if not value:
        yield SERVER.ok("token", "none is sent", kind=None)
        return
    claims = claims_of(value.removeprefix("Bearer "))
    if claims is None:
        yield SERVER.ok(
            "token", "one is sent; it does not tell how long it is valid", kind="opaque"
        )
        return
    yield of_claims(claims, time.time())


def of_claims(claims: dict[str, Any], now: float) -> Finding:
    """Whether a JSON Web Token is valid at a time.

    Args:
        claims: what it says; not verified here.
        now: seconds since 1970 by this machine's clock.
    """
    times = {n: float(claims[n]) for n in ("exp", "nbf", "iat") if is_number(claims.get(n))}
    facts = {"kind": "jwt", **times}
    begins = max(times.get("nbf", 0.0), times.get("iat", 0.0))
    if begins > now + CLOCK_SLACK_S:
        return SERVER.failure(
            "token", f"it is valid in {begins - now:.0f} s only: the clock of this machine, or of "
            "the issuer, is wrong", "timedatectl status", **facts,
        )  # fmt: skip
    if "exp" in times and times["exp"] < now:
        ago = now - times["exp"]
        return SERVER.failure(
            "token", f"it expired {ago:.0f} s ago by the clock of this machine: set the clock, or "
            "get a new token from its issuer", "timedatectl status", **facts,
        )  # fmt: skip
    left = f" for {times['exp'] - now:.0f} s more" if "exp" in times else ""
    return SERVER.ok(
        "token", f"a JSON Web Token, valid{left} by the clock of this machine", **facts
    )


def claims_of(token: str) -> dict[str, Any] | None:
    """What a JSON Web Token says; None for another kind of token."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > MAX_CLAIMS:
        return None
    try:
        text = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def is_number(value: object) -> bool:
    """Whether a claim is a time."""
    return isinstance(value, int | float) and not isinstance(value, bool)
