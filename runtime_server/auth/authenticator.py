"""Who may call: from the metadata of a call to a name, or a typed refusal.

Decided before a byte of the body is used. Everything that is configured is required: a token where
there are keys, a certificate where there is an authority. Knows names, tokens and rules; neither
gRPC nor sockets.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from cascade.errors import PermissionDenied, Unauthenticated
from runtime_server.auth.static_keys import match_token, read_keys
from runtime_server.auth.watched_file import WatchedFiles, read_setting
from runtime_server.config.config import ServerConfig
from runtime_server.protocol.callers import ANONYMOUS
from wire.limits import MAX_TOKEN_CHARACTERS

HEADER = "authorization"
BEARER = "bearer "
HEALTH_SERVICE = "grpc.health.v1.Health"
CERTIFICATE_NAME = re.compile(r"[\x21-\x7e]{1,128}")
"""Printable ASCII without spaces, as for the subject of a token."""

Metadata = Sequence[tuple[str, str | bytes]]


class Authenticator:
    """The rules of one server; its files of keys are read again when they change."""

    def __init__(self, config: ServerConfig) -> None:
        """Read the keys.

        Raises:
            InvalidRequest: a file of keys is missing or malformed.
        """
        self._anonymous = config.anonymous_allowed
        self._health_auth = config.health_auth
        self._keys: WatchedFiles[Mapping[str, str]] | None = None
        if config.token_keys is not None:
            path = config.token_keys
            self._keys = WatchedFiles(
                "token_keys", (path,), lambda: read_keys(read_setting(path, "token_keys"))
            )
        self._tokens = None
        if config.jwt_keys is not None:
            self._tokens = JwtTokens(config.jwt_keys, config)

    @property
    def needs_token(self) -> bool:
        """Whether tokens are how callers say who they are."""
        return self._keys is not None or self._tokens is not None

    def identify(self, method: str, metadata: Metadata) -> str | None:
        """Who calls, as far as metadata say; None leaves it to the connection's certificate.

        Args:
            method: full path, `/package.Service/Method`.
            metadata: of the call.

        Raises:
            Unauthenticated: no token where one is needed, or one that is not accepted.
        """
        if method.startswith(f"/{HEALTH_SERVICE}/") and not self._health_auth:
            return ANONYMOUS
        if not self.needs_token:
            return None
        token = find_token(metadata)
        if token is not None:
            return self._name_of(token)
        if self._anonymous:
            return None
        raise Unauthenticated(
            "authorization: this server needs a token: send `authorization: Bearer TOKEN`",
            field=HEADER,
        )

    def name_of_connection(self, certificate: Mapping[str, Sequence[bytes]]) -> str:
        """Who calls, when no token says it.

        Args:
            certificate: what gRPC tells of the peer's certificate; empty where it has none.

        Raises:
            Unauthenticated: neither certificate nor token, and anonymous callers are not let in.
            PermissionDenied: the certificate holds no name that can be used.
        """
        if "x509_pem_cert" in certificate:
            return f"cert:{name_in(certificate)}"
        if self._anonymous:
            return ANONYMOUS
        raise Unauthenticated("this server wants a client certificate or a token", field=HEADER)

    def _name_of(self, token: str) -> str:
        """The caller whose token that is.

        The kinds of names are kept apart: a subject of somebody's JWT is never the caller of a
        static key.
        """
        if self._tokens is not None and token.count(".") == 2:
            return f"jwt:{self._tokens.subject(token)}"
        name = None if self._keys is None else match_token(self._keys.current(), token)
        if name is None:
            raise Unauthenticated("token: it is not accepted", field=HEADER)
        return f"key:{name}"


class JwtTokens:
    """JSON Web Tokens under the rules of one configuration."""

    def __init__(self, path: Path, config: ServerConfig) -> None:
        # PyJWT and what it loads cost time that servers without JWT need not spend at their start.
        from runtime_server.auth import jwt_tokens  # noqa: PLC0415

        self._jwt = jwt_tokens

        def read() -> jwt_tokens.JwtRules:
            keys = jwt_tokens.read_jwt_keys(read_setting(path, "jwt_keys"), config.jwt_algorithm)
            return jwt_tokens.JwtRules(
                keys=keys, audience=config.jwt_audience, issuer=config.jwt_issuer
            )

        self._rules = WatchedFiles("jwt_keys", (path,), read)

    def subject(self, token: str) -> str:
        """Who a token speaks for; see `read_subject`."""
        return self._jwt.read_subject(self._rules.current(), token)


def find_token(metadata: Metadata) -> str | None:
    """The bearer token of a call, None where there is no `authorization`.

    Raises:
        Unauthenticated: the header is given twice, is no bearer token, or is too long.
    """
    values = [value for key, value in metadata if key == HEADER]
    if not values:
        return None
    value = values[0]
    token = value[len(BEARER) :].strip() if isinstance(value, str) else ""
    bearer = isinstance(value, str) and value[: len(BEARER)].lower() == BEARER
    if len(values) > 1 or not bearer or not 1 <= len(token) <= MAX_TOKEN_CHARACTERS:
        raise Unauthenticated(
            f"authorization: expected once `Bearer TOKEN`, a token of at most "
            f"{MAX_TOKEN_CHARACTERS} characters",
            field=HEADER,
        )
    return token


def name_in(certificate: Mapping[str, Sequence[bytes]]) -> str:
    """The name in a certificate: its first alternative name, else its common name.

    Raises:
        PermissionDenied: it has neither, or the name is not printable ASCII of up to 128 letters.
    """
    for field in ("x509_subject_alternative_name", "x509_common_name"):
        names = certificate.get(field)
        if names:
            name = bytes(names[0]).decode("ascii", "replace")
            if CERTIFICATE_NAME.fullmatch(name):
                return name
            break
    raise PermissionDenied(
        "certificate: it needs a subject alternative name, or a common name, of up to 128 "
        "printable characters without spaces",
        field="certificate",
    )
