"""JSON Web Tokens as bearer tokens: checked by PyJWT with what the operator pinned.

The algorithm comes from the configuration or from the key, never from the token. Audience, expiry
and subject are required. The only file that imports PyJWT; knows tokens and keys, not how a token
arrives.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade.errors import InvalidRequest, MissingExtra, Unauthenticated

try:
    import jwt
except ImportError as exc:
    raise MissingExtra("JWT needs PyJWT: pip install 'edge-cascade[server]'") from exc

ALGORITHMS = (
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
"""What may be pinned; `none` is not among them."""
LEEWAY_S = 10.0
"""How far the clocks of issuer and server may differ."""
REQUIRED_CLAIMS = ("exp", "aud", "sub")
MIN_SECRET_BYTES = 32
"""A shorter secret can be guessed from one token."""
SUBJECT = re.compile(r"[\x21-\x7e]{1,128}")
"""Printable ASCII without spaces: it goes into logs and counts."""

# What PyJWT and the parsers below it let through of a token that somebody made to break them: JSON
# nested beyond the stack, numbers beyond any time, bytes that are no text.
BROKEN = (jwt.PyJWTError, ValueError, TypeError, RecursionError, OverflowError, AttributeError)

REFUSED = "token: it is not accepted"
EXPIRED = "token: it has expired; get a new one"


@dataclass(frozen=True, slots=True)
class PinnedKey:
    """One key and the one algorithm it is used with."""

    algorithm: str
    key: Any
    """As PyJWT takes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JwtRules:
    """What a token must be."""

    keys: Mapping[str | None, PinnedKey]
    """By `kid`; a single key without a name stands under None and ignores the token's `kid`."""
    audience: str
    issuer: str = ""
    """Empty accepts any."""


def read_jwt_keys(data: bytes, algorithm: str) -> Mapping[str | None, PinnedKey]:
    """The keys of a file: a JWK set, or one PEM public key, or one secret.

    Args:
        data: the file's content.
        algorithm: the pinned algorithm of a single key; empty for a JWK set, whose keys each
            carry their own `alg`.

    Raises:
        InvalidRequest: the file is none of the three, or a key and its algorithm do not fit.
    """
    if not algorithm:
        return read_key_set(data)
    check_algorithm(algorithm, "jwt_algorithm")
    secret = data.strip()
    if algorithm.startswith("HS") and len(secret) < MIN_SECRET_BYTES:
        raise wrong(f"a secret of fewer than {MIN_SECRET_BYTES} bytes can be guessed")
    if b"PRIVATE KEY" in data:
        raise wrong("it holds a private key; the server needs only the public one")
    try:
        key = jwt.get_algorithm_by_name(algorithm).prepare_key(secret)
    except (jwt.PyJWTError, ValueError, TypeError) as exc:
        raise wrong(f"it is no key for {algorithm}") from exc
    return {None: PinnedKey(algorithm, key)}


def read_key_set(data: bytes) -> Mapping[str | None, PinnedKey]:
    """The keys of a JWK set, each with a `kid` and an `alg`."""
    try:
        entries = json.loads(data)["keys"]
        named = {entry["kid"]: entry for entry in entries}
    except (ValueError, KeyError, TypeError) as exc:
        raise wrong("expected a JWK set whose keys have kid and alg, or set jwt_algorithm") from exc
    if not named or len(named) != len(entries) or not all(isinstance(k, str) for k in named):
        raise wrong("a JWK set needs at least one key, and no kid twice")
    return {kid: read_key(entry) for kid, entry in named.items()}


def read_key(entry: Mapping[str, Any]) -> PinnedKey:
    """One key of a JWK set."""
    algorithm = entry.get("alg")
    if not isinstance(algorithm, str):
        raise wrong("every key of a JWK set needs an alg")
    check_algorithm(algorithm, "jwt_keys")
    if "d" in entry:
        raise wrong("it holds a private key; the server needs only the public one")
    try:
        key = jwt.PyJWK(dict(entry), algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError) as exc:
        raise wrong(f"a key is no key for {algorithm}") from exc
    if isinstance(key, bytes) and len(key) < MIN_SECRET_BYTES:
        raise wrong(f"a secret of fewer than {MIN_SECRET_BYTES} bytes can be guessed")
    return PinnedKey(algorithm, key)


def check_algorithm(algorithm: str, field: str) -> None:
    """Raise `InvalidRequest` unless the algorithm may be pinned."""
    if algorithm not in ALGORITHMS:
        raise InvalidRequest(
            f"{field}: expected one of {', '.join(ALGORITHMS)}, got {algorithm[:20]!r}",
            field=field,
        )


def wrong(what: str) -> InvalidRequest:
    """The error of a bad file of keys; nothing of the file is quoted."""
    return InvalidRequest(f"jwt_keys: {what}", field="jwt_keys")


def read_subject(rules: JwtRules, token: str) -> str:
    """Who a token speaks for.

    Raises:
        Unauthenticated: the token is not accepted; only expiry, found after the signature, is told
            apart.
    """
    try:
        pinned = choose_key(rules.keys, jwt.get_unverified_header(token).get("kid"))
        claims = jwt.decode(
            token,
            pinned.key,
            algorithms=[pinned.algorithm],
            audience=rules.audience,
            issuer=rules.issuer or None,
            leeway=LEEWAY_S,
            options={"require": list(REQUIRED_CLAIMS)},
        )
    except jwt.ExpiredSignatureError as exc:
        raise Unauthenticated(EXPIRED, field="authorization") from exc
    except BROKEN as exc:
        raise Unauthenticated(REFUSED, field="authorization") from exc
    subject = claims["sub"]
    if not isinstance(subject, str) or not SUBJECT.fullmatch(subject):
        raise Unauthenticated(REFUSED, field="authorization")
    return subject


def choose_key(keys: Mapping[str | None, PinnedKey], kid: object) -> PinnedKey:
    """The key that a token's header points at.

    Raises:
        Unauthenticated: there is none of that name.
    """
    single = keys.get(None)
    if single is not None:
        return single
    found = keys.get(kid) if isinstance(kid, str) else None
    if found is None:
        raise Unauthenticated(REFUSED, field="authorization")
    return found
