"""Authentication: the table of `docs/explanation/security-model.md`, without a socket."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cascade.errors import CascadeError, PermissionDenied, Unauthenticated
from runtime_server import ServerConfig
from runtime_server.auth.authenticator import Authenticator, find_token, name_in
from runtime_server.auth.static_keys import hash_token, make_token
from tests.support.tokens import AUDIENCE, Issuer

TOKEN, ISSUER = make_token(), Issuer()
METHOD = "/cascade.v1.CascadeService/Generate"
NO_CERTIFICATE: Mapping[str, Sequence[bytes]] = {"transport_security_type": [b"ssl"]}
CERTIFICATE = {
    "x509_pem_cert": [b"..."],
    "x509_common_name": [b"gateway"],
    "x509_subject_alternative_name": [b"phone-7.example.org", b"other"],
}
GOOD, BAD, NONE = f"Bearer {TOKEN}", "Bearer x", None


def signed_now() -> str:
    """A header signed when a test runs; one signed at collection has expired on a busy machine."""
    return f"Bearer {ISSUER.token()}"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """What the settings name."""
    keys = tmp_path / "keys.toml"
    keys.write_text(f'alice = "{hash_token(TOKEN)}"')
    return {
        "token_keys": keys,
        "jwt_keys": ISSUER.write_key_set(tmp_path / "keys.json"),
        "tls_client_ca": tmp_path / "authority.pem",
        "tls_cert": tmp_path / "cert.pem",
        "tls_key": tmp_path / "key.pem",
    }


def access(files: dict[str, Path], *names: str, **settings: Any) -> Authenticator:
    """The rules with those files configured."""
    chosen: dict[str, Any] = {name: files[name] for name in names}
    if "tls_client_ca" in names:
        chosen |= {"tls_cert": files["tls_cert"], "tls_key": files["tls_key"]}
    if "jwt_keys" in names:
        chosen["jwt_audience"] = AUDIENCE
    return Authenticator(ServerConfig(bundle=Path("b"), **chosen, **settings))


def called(
    rules: Authenticator,
    header: str | None,
    certificate: Mapping[str, Sequence[bytes]],
    method: str,
) -> str:
    """Who a call is from, in the two looks that the gate takes; or what refuses it."""
    metadata = [] if header is None else [("authorization", header)]
    try:
        return rules.identify(method, metadata) or rules.name_of_connection(certificate)
    except CascadeError as exc:
        return exc.reason


REFUSED = "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("configured", "settings", "header", "certificate", "who"),
    [
        ((), {}, NONE, {}, "anonymous"),
        ((), {}, BAD, {}, "anonymous"),
        (("token_keys",), {}, NONE, {}, REFUSED),
        (("token_keys",), {}, NONE, CERTIFICATE, REFUSED),
        (("token_keys",), {}, GOOD, {}, "key:alice"),
        (("token_keys",), {}, BAD, CERTIFICATE, REFUSED),
        (("token_keys",), {"anonymous": "allow"}, NONE, {}, "anonymous"),
        (("token_keys",), {"anonymous": "allow"}, GOOD, {}, "key:alice"),
        (("token_keys",), {"anonymous": "allow"}, BAD, {}, REFUSED),
        (("jwt_keys",), {}, signed_now, {}, "jwt:alice"),
        (("jwt_keys",), {}, GOOD, {}, REFUSED),
        (("token_keys", "jwt_keys"), {}, GOOD, {}, "key:alice"),
        (("token_keys", "jwt_keys"), {}, signed_now, {}, "jwt:alice"),
        (("token_keys", "jwt_keys"), {}, NONE, {}, REFUSED),
        (("tls_client_ca",), {}, NONE, CERTIFICATE, "cert:phone-7.example.org"),
        (("tls_client_ca",), {}, BAD, CERTIFICATE, "cert:phone-7.example.org"),
        (("tls_client_ca",), {}, NONE, NO_CERTIFICATE, REFUSED),
        (("tls_client_ca", "token_keys"), {}, NONE, CERTIFICATE, REFUSED),
        (("tls_client_ca", "token_keys"), {}, GOOD, CERTIFICATE, "key:alice"),
        (
            ("tls_client_ca", "token_keys"), {"anonymous": "allow"}, NONE, CERTIFICATE,
            "cert:phone-7.example.org",
        ),
    ],
    # The tokens are new in every process, and names that change cannot be shared out.
    ids=map(str, range(20)),
)  # fmt: skip
def test_everything_that_is_configured_is_required(
    configured: tuple[str, ...],
    settings: dict[str, Any],
    header: str | Callable[[], str] | None,
    certificate: Mapping[str, Sequence[bytes]],
    who: str,
    files: dict[str, Path],
) -> None:
    """Token where there are keys, certificate where there is an authority."""
    sent = header() if callable(header) else header
    assert called(access(files, *configured, **settings), sent, certificate, METHOD) == who


@pytest.mark.parametrize(
    ("method", "health_auth", "who"),
    [
        ("/grpc.health.v1.Health/Check", False, "anonymous"),
        ("/grpc.health.v1.Health/Watch", False, "anonymous"),
        ("/grpc.health.v1.Health/Check", True, REFUSED),
        ("/grpc.health.v1.Healthy/Check", False, REFUSED),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", False, REFUSED),
        ("/x/grpc.health.v1.Health/", False, REFUSED),
    ],
)
def test_only_health_checks_may_be_open(
    method: str, who: str, files: dict[str, Path], *, health_auth: bool
) -> None:
    """Reflection and everything else is as closed as the service."""
    rules = access(files, "token_keys", health_auth=health_auth)
    assert called(rules, NONE, {}, method) == who


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer\tx", "Token x", "xBearer x", b"Bearer x"]
)
def test_what_is_no_bearer_token_is_refused(header: Any) -> None:
    """Also a header of bytes."""
    with pytest.raises(Unauthenticated):
        find_token([("authorization", header)])


def test_a_bearer_token_is_found_among_other_metadata() -> None:
    """And none is no error here."""
    others = [("user-agent", "x"), ("authorization-bin", b"Bearer y"), ("x-token", "Bearer z")]
    assert find_token(others) is None
    assert find_token([*others, ("authorization", "BEARER  t ")]) == "t"


@pytest.mark.parametrize("name", [b"", b"a b", b"a\n", b"\xc3\xa9", b"a\0", b"x" * 129])
def test_names_that_could_confuse_a_log_are_refused(name: bytes) -> None:
    """The first alternative name counts, and no other is looked for behind a bad one."""
    for field in ("x509_subject_alternative_name", "x509_common_name"):
        with pytest.raises(PermissionDenied):
            name_in({"x509_common_name": [b"good"], field: [name]})
