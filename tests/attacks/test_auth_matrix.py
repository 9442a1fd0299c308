"""Tokens: who is let in, one test per cell, and that no other caller's body is looked at.

Every call carries a body that is no message: a caller who is let in is told that the body is bad, a
caller who is not never learns it.
"""

# ruff: noqa: E501, ARG005  one cell per line, and not every token depends on the world

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from cascade.bundle.bundle import Bundle
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_server.auth.static_keys import hash_token, make_token
from tests.support.serving import (
    PROMPT,
    SERVICE,
    RunningServer,
    connect,
    details_of,
    request_message,
    running,
)
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.tokens import AUDIENCE, ISSUER, Issuer, forged_with_public_key, unsigned
from wire.limits import MAX_TOKEN_CHARACTERS

GARBAGE = b"\xff\xff\xff"
LET_IN = ("INVALID_ARGUMENT", "INVALID_REQUEST")
REFUSED = ("UNAUTHENTICATED", "UNAUTHENTICATED")
METHODS = {
    "Generate": "unary_stream",
    "PutContext": "unary_unary",
    "GetServerInfo": "unary_unary",
    "GetBundleManifest": "unary_unary",
    "ReadBundleFile": "unary_stream",
}


@dataclass(frozen=True)
class World:
    """An issuer, two static tokens, and the files that servers know them by."""

    issuer: Issuer
    alice: str
    revoked: str
    keys: Path
    key_set: Path
    pem: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """All tokens of these tests."""
    folder = tmp_path_factory.mktemp("tokens")
    issuer, alice, revoked = Issuer(), make_token(), make_token()
    keys = folder / "keys.toml"
    keys.write_text(f'alice = "{hash_token(alice)}"\n"bob@example.org" = "{"0" * 64}"\n')
    pem = folder / "issuer.pem"
    pem.write_bytes(issuer.public_pem)
    key_set = issuer.write_key_set(folder / "keys.json", "re")
    return World(issuer, alice, revoked, keys, key_set, pem)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle in miniature."""
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


Served = Callable[[str], RunningServer]

SERVERS = {
    "open": "no keys, loopback",
    "keys": "`token_keys`",
    "jwt": "`jwt_keys`: a JWK set",
    "pem": "`jwt_keys`: one PEM key, `jwt_algorithm`",
    "both": "`token_keys` and `jwt_keys`",
    "lenient": '`token_keys`, `anonymous = "allow"`',
    "strict": "`token_keys`, `health_auth`",
}


def settings_of(server: str, world: World) -> dict[str, Any]:
    """How each server is configured."""
    rules = {"jwt_audience": AUDIENCE, "jwt_issuer": ISSUER}
    keys = {"token_keys": world.keys, "reflection": True}
    return {
        "open": {},
        "keys": keys,
        "jwt": {"jwt_keys": world.key_set, **rules},
        "pem": {"jwt_keys": world.pem, "jwt_algorithm": "RS256", **rules},
        "both": {"token_keys": world.keys, "jwt_keys": world.key_set, **rules},
        "lenient": {"token_keys": world.keys, "anonymous": "allow"},
        "strict": {**keys, "health_auth": True},
    }[server]


@pytest.fixture(scope="module")
def served(world: World, bundle: Bundle) -> Iterator[Served]:
    """One running server per configuration, started by the first test that wants it."""
    found: dict[str, RunningServer] = {}
    with ExitStack() as stack:

        def get(server: str) -> RunningServer:
            if server not in found:
                settings = settings_of(server, world)
                found[server] = stack.enter_context(running(bundle, **settings))
            return found[server]

        yield get


@dataclass(frozen=True)
class Cell:
    """One token at one server."""

    name: str
    server: str
    words: str
    """The token, in words for the table."""
    header: Callable[[World], str | None]
    """The whole `authorization`, None for none."""
    let_in: bool = False


def jwt_cell(name: str, words: str, make: Callable[[Issuer], str], **more: Any) -> Cell:
    """A JSON Web Token at the server with a JWK set."""
    return Cell(
        name, more.pop("server", "jwt"), words, lambda w: f"Bearer {make(w.issuer)}", **more
    )


def ago(seconds: float) -> float:
    """A time in the past, or with a negative number in the future."""
    return time.time() - seconds


CELLS = [
    Cell("nothing-needed", "open", "none", lambda w: None, let_in=True),
    Cell("ignored", "open", "any: not read", lambda w: "Bearer x", let_in=True),
    Cell("none", "keys", "none", lambda w: None),
    Cell("good-static", "keys", "good", lambda w: f"Bearer {w.alice}", let_in=True),
    Cell("lower-case-scheme", "keys", "good, `bearer` in lower case", lambda w: f"bearer {w.alice}", let_in=True),
    Cell("bad", "keys", "of no line in the file", lambda w: f"Bearer {make_token()}"),
    Cell("revoked", "keys", "taken out of the file (or never in it)", lambda w: f"Bearer {w.revoked}"),
    Cell("hash-as-token", "keys", "the hash from the file", lambda w: f"Bearer {hash_token(w.alice)}"),
    Cell("truncated", "keys", "good, one letter short", lambda w: f"Bearer {w.alice[:-1]}"),
    Cell("empty", "keys", "empty", lambda w: "Bearer "),
    Cell("basic", "keys", "another scheme", lambda w: "Basic YWxpY2U6YWxpY2U="),
    Cell("too-long", "keys", f"{MAX_TOKEN_CHARACTERS + 1} characters", lambda w: "Bearer " + "x" * (MAX_TOKEN_CHARACTERS + 1)),
    Cell("jwt-at-keys", "keys", "a good JWT", lambda w: f"Bearer {w.issuer.token()}"),
    Cell("none-at-lenient", "lenient", "none", lambda w: None, let_in=True),
    Cell("bad-at-lenient", "lenient", "of no line in the file", lambda w: f"Bearer {make_token()}"),
    Cell("none-at-jwt", "jwt", "none", lambda w: None),
    jwt_cell("good-jwt", "good, RS256", lambda i: i.token(), let_in=True),
    jwt_cell("good-jwt-of-another-key", "good, ES256", lambda i: i.token(kid="e", key="e"), let_in=True),
    jwt_cell("audience-in-a-list", "good, `aud` is a list", lambda i: i.token(aud=["x", AUDIENCE]), let_in=True),
    jwt_cell("just-expired", "expired within the leeway", lambda i: i.token(exp=ago(5)), let_in=True),
    jwt_cell("expired", "expired", lambda i: i.token(exp=ago(20))),
    jwt_cell("not-yet-valid", "not yet valid", lambda i: i.token(nbf=ago(-20))),
    jwt_cell("from-the-future", "issued in the future", lambda i: i.token(iat=ago(-60))),
    jwt_cell("never-expires", "without `exp`", lambda i: i.token(exp=None)),
    jwt_cell("wrong-audience", "for another audience", lambda i: i.token(aud="elsewhere")),
    jwt_cell("no-audience", "without `aud`", lambda i: i.token(aud=None)),
    jwt_cell("wrong-issuer", "of another issuer", lambda i: i.token(iss="https://evil.test")),
    jwt_cell("no-issuer", "without `iss`", lambda i: i.token(iss=None)),
    jwt_cell("no-subject", "without `sub`", lambda i: i.token(sub=None)),
    jwt_cell("bad-subject", "`sub` with a line break", lambda i: i.token(sub="alice\nroot")),
    jwt_cell("alg-none", "`alg` none, no signature", lambda i: unsigned({"alg": "none", "kid": "r"})),
    jwt_cell("alg-none-capitals", "`alg` NONE, no signature", lambda i: unsigned({"alg": "NONE", "kid": "r"})),
    jwt_cell("alg-confusion", "HS256 keyed with the public RSA key", lambda i: forged_with_public_key(i.public_pem)),
    jwt_cell("key-confusion", "ES256 under the `kid` of the RSA key", lambda i: i.token(kid="r", key="e")),
    jwt_cell("unknown-kid", "unknown `kid`", lambda i: i.token(kid="z")),
    jwt_cell("no-kid", "without `kid`", lambda i: i.token(kid=None)),
    jwt_cell("stranger", "of a key that is not in the file", lambda i: Issuer().token()),
    jwt_cell("altered", "claims changed after signing", lambda i: altered(i.token())),
    jwt_cell("three-dots", "`a.b.c`", lambda i: "a.b.c"),
    jwt_cell("good-at-pem", "good, RS256", lambda i: i.token(kid=None), server="pem", let_in=True),
    jwt_cell("confusion-at-pem", "HS256 keyed with the public RSA key", lambda i: forged_with_public_key(i.public_pem), server="pem"),
    jwt_cell("none-alg-at-pem", "`alg` none, no signature", lambda i: unsigned({"alg": "none"}), server="pem"),
    jwt_cell("jwt-at-both", "a good JWT", lambda i: i.token(), server="both", let_in=True),
    Cell("static-at-both", "both", "a good static token", lambda w: f"Bearer {w.alice}", let_in=True),
    Cell("none-at-both", "both", "none", lambda w: None),
]  # fmt: skip


def altered(token: str) -> str:
    """The token with other claims under its old signature."""
    header, _, signature = token.split(".")
    claims = unsigned({}, sub="root").split(".")[1]
    return f"{header}.{claims}.{signature}"


def metadata_of(header: str | None) -> tuple[tuple[str, str], ...]:
    """What a call carries."""
    return () if header is None else (("authorization", header),)


def answer(address: str, header: str | None, method: str = "PutContext") -> tuple[str, str]:
    """Code and reason that a call with a bad body gets."""
    with connect(address) as caller:
        call = getattr(caller.channel, METHODS[method])(SERVICE + method)
        with pytest.raises(grpc.RpcError) as failed:
            list(call(GARBAGE, metadata=metadata_of(header), timeout=120))
    return details_of(failed.value)[:2]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_who_is_let_in(cell: Cell, world: World, served: Served) -> None:
    """UNAUTHENTICATED, or the complaint about the body that only callers let in get to see."""
    server = served(cell.server)
    assert answer(server.address, cell.header(world)) == (LET_IN if cell.let_in else REFUSED)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_behind_the_gate(method: str, world: World, served: Served) -> None:
    """Also the stream, and the call without a body to speak of."""
    address = served("keys").address
    assert answer(address, None, method) == REFUSED
    assert answer(address, f"Bearer {world.alice}", method) == LET_IN


def test_two_tokens_are_refused(world: World, served: Served) -> None:
    """Whatever they are: which of them would count is nobody's guess."""
    twice = metadata_of(f"Bearer {world.alice}") * 2
    with connect(served("keys").address) as caller, pytest.raises(grpc.RpcError) as failed:
        caller.channel.unary_unary(SERVICE + "PutContext")(GARBAGE, metadata=twice, timeout=120)
    assert details_of(failed.value)[:2] == REFUSED


def test_without_a_token_no_method_is_told_apart(served: Served) -> None:
    """An unknown method is as unauthenticated as a known one."""
    with connect(served("keys").address) as caller, pytest.raises(grpc.RpcError) as failed:
        caller.channel.unary_unary("/other.Service/Call")(b"", timeout=120)
    assert details_of(failed.value)[:2] == REFUSED


def test_the_refusal_comes_before_the_body(world: World, served: Served) -> None:
    """A caller who sends metadata and then nothing is refused; a good one is waited for."""

    def sending_nothing(header: str, timeout_s: float) -> str:
        with connect(served("keys").address) as caller:
            over = threading.Event()

            def never() -> Iterator[bytes]:
                over.wait(60)
                yield from ()

            method = caller.channel.stream_unary(SERVICE + "PutContext")
            call = method.future(never(), metadata=metadata_of(header), timeout=timeout_s)
            error = call.exception(timeout=timeout_s + 20)
            over.set()
            assert isinstance(error, grpc.RpcError)
            return details_of(error)[0]

    assert sending_nothing("Bearer wrong", 30) == "UNAUTHENTICATED"
    assert sending_nothing(f"Bearer {world.alice}", 1) == "DEADLINE_EXCEEDED"


def test_a_token_taken_out_of_the_file_is_refused_at_once(
    world: World, bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a restart; a file that became unreadable changes nothing, and the log says so."""
    keys = tmp_path / "keys.toml"
    both = f'alice = "{hash_token(world.alice)}"\nmallory = "{hash_token(world.revoked)}"\n'
    keys.write_text(both)
    with running(bundle, token_keys=keys) as server:
        mallory = f"Bearer {world.revoked}"
        assert answer(server.address, mallory) == LET_IN
        keys.write_text("this is not TOML")
        with caplog.at_level(logging.INFO, "runtime_server"):
            assert answer(server.address, mallory) == LET_IN
        assert "reload_refused" in [record.getMessage() for record in caplog.records]
        keys.write_text(both.splitlines()[0])
        assert answer(server.address, mallory) == REFUSED
        assert answer(server.address, f"Bearer {world.alice}") == LET_IN


def test_a_key_taken_out_of_the_set_is_refused_at_once(
    world: World, bundle: Bundle, tmp_path: Path
) -> None:
    """Rotation of an issuer's keys: the new one in, later the old one out."""
    issuer = world.issuer
    path = issuer.write_key_set(tmp_path / "keys.json", "r")
    with running(bundle, jwt_keys=path, jwt_audience=AUDIENCE) as server:
        old, new = f"Bearer {issuer.token()}", f"Bearer {issuer.token(kid='e', key='e')}"
        assert (answer(server.address, old), answer(server.address, new)) == (LET_IN, REFUSED)
        issuer.write_key_set(path, "re")
        assert (answer(server.address, old), answer(server.address, new)) == (LET_IN, LET_IN)
        issuer.write_key_set(path, "e")
        assert (answer(server.address, old), answer(server.address, new)) == (REFUSED, LET_IN)


@pytest.mark.parametrize(
    ("server", "header", "identity"),
    [
        ("open", lambda w: None, "anonymous"),
        ("lenient", lambda w: None, "anonymous"),
        ("keys", lambda w: f"Bearer {w.alice}", "key:alice"),
        ("jwt", lambda w: f"Bearer {w.issuer.token(sub='carol')}", "jwt:carol"),
        ("jwt", lambda w: f"Bearer {w.issuer.token(sub='key:alice')}", "jwt:key:alice"),
    ],
)
def test_the_name_goes_with_the_request(
    server: str,
    header: Callable[[World], str | None],
    identity: str,
    world: World,
    served: Served,
    bundle: Bundle,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log names the caller, and no kind of token can take another kind's names."""
    message = request_message(bundle, prompt=pb.PromptStart(prompt=PROMPT)).SerializeToString()
    with caplog.at_level(logging.INFO, "runtime_server"), connect(served(server).address) as caller:
        call = caller.channel.unary_stream(SERVICE + "Generate")
        assert list(call(message, metadata=metadata_of(header(world)), timeout=120))
    lines = [getattr(r, "fields", {}) for r in caplog.records if r.getMessage() == "generate"]
    assert [line["identity"] for line in lines] == [identity]


def test_no_token_is_ever_written_down(
    world: World, served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a good one nor a bad one, in no line of the log and in no answer."""
    bad = make_token()
    with caplog.at_level(logging.DEBUG):
        answer(served("keys").address, f"Bearer {bad}")
        answer(served("keys").address, f"Bearer {world.alice}")
        answer(served("jwt").address, f"Bearer {world.issuer.token(exp=ago(100))}")
    text = "".join(f"{r.getMessage()} {getattr(r, 'fields', '')}" for r in caplog.records)
    assert "unauthenticated" in text
    for secret in (bad, world.alice, "eyJ", hash_token(bad)):
        assert secret not in text


def health(address: str, header: str | None) -> str:
    """What a health check answers: the state, or the code of a refusal."""
    with connect(address) as caller:
        stub = health_pb2_grpc.HealthStub(caller.channel)
        request = health_pb2.HealthCheckRequest()
        try:
            reply = stub.Check(request, metadata=metadata_of(header), timeout=120)
        except grpc.RpcError as exc:
            return str(exc.code().name)  # type: ignore[attr-defined]
    return health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)


def test_health_has_a_policy_of_its_own(world: World, served: Served) -> None:
    """Open to probes by default, behind the gate where the operator says so."""
    assert health(served("keys").address, None) == "SERVING"
    assert health(served("keys").address, "Bearer wrong") == "SERVING"
    assert health(served("strict").address, None) == "UNAUTHENTICATED"
    assert health(served("strict").address, f"Bearer {world.alice}") == "SERVING"


def test_reflection_is_behind_the_gate(world: World, served: Served) -> None:
    """The list of services is for callers with a name."""
    with connect(served("keys").address) as caller, pytest.raises(grpc.RpcError) as refused:
        ProtoReflectionDescriptorDatabase(caller.channel).get_services()
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    with connect(served("keys").address) as caller:
        named = WithMetadata(caller.channel, metadata_of(f"Bearer {world.alice}"))
        services = ProtoReflectionDescriptorDatabase(named).get_services()
    assert "cascade.v1.CascadeService" in services


class WithMetadata:
    """A channel whose streams carry metadata: all that the reflection client needs of one."""

    def __init__(self, channel: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self._channel = channel
        self._metadata = metadata

    def stream_stream(self, *arguments: Any, **options: Any) -> Any:
        """As the channel's."""
        call = self._channel.stream_stream(*arguments, **options)
        return lambda requests: call(requests, metadata=self._metadata)
