"""Files of JWT keys: what is taken, and what is refused before the server starts.

Which tokens pass is the matrix of `tests/attacks/test_auth_matrix.py`.
"""

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st

from cascade.errors import InvalidRequest, Unauthenticated
from runtime_server.auth.jwt_tokens import ALGORITHMS, JwtRules, read_jwt_keys, read_subject
from tests.support.tokens import AUDIENCE, SECRET, Issuer, claims_of, unsigned

ISSUER = Issuer()


def rules(data: bytes, algorithm: str) -> JwtRules:
    """Rules without an issuer."""
    return JwtRules(keys=read_jwt_keys(data, algorithm), audience=AUDIENCE)


def test_a_secret_signs_and_verifies() -> None:
    """HS256 with the secret in a file, white space around it ignored."""
    good = rules(SECRET + b"\n", "HS256")
    assert read_subject(good, ISSUER.token(kid=None, key="s")) == "alice"
    with pytest.raises(Unauthenticated):
        read_subject(good, ISSUER.token(kid=None, key="r"))


def test_edwards_curves_verify() -> None:
    """EdDSA with a PEM key."""
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    token = jwt.encode(claims_of({}), key, algorithm="EdDSA")
    assert read_subject(rules(public, "EdDSA"), token) == "alice"


def test_without_an_issuer_any_is_accepted() -> None:
    """The rule is there only where it is set."""
    token = ISSUER.token(kid=None, iss="https://whoever.test")
    assert read_subject(rules(ISSUER.public_pem, "RS256"), token) == "alice"


def test_expiry_is_told_apart_only_after_the_signature() -> None:
    """A forged token never learns that it has expired."""
    good = rules(ISSUER.public_pem, "RS256")
    with pytest.raises(Unauthenticated, match="expired"):
        read_subject(good, ISSUER.token(kid=None, exp=1))
    with pytest.raises(Unauthenticated, match="not accepted"):
        read_subject(good, Issuer().token(kid=None, exp=1))
    with pytest.raises(Unauthenticated, match="not accepted"):
        read_subject(good, unsigned({"alg": "RS256"}, exp=1))


def key_set(*entries: dict[str, Any]) -> bytes:
    """A JWK set."""
    return json.dumps({"keys": list(entries)}).encode()


def private_pem() -> bytes:
    """A key that belongs to the issuer alone."""
    return ISSUER.rsa.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


PUBLIC = jwt.get_algorithm_by_name("RS256").to_jwk(ISSUER.rsa.public_key(), as_dict=True)
PRIVATE = jwt.get_algorithm_by_name("RS256").to_jwk(ISSUER.rsa, as_dict=True)
SHORT = {"kty": "oct", "k": "c2hvcnQ", "kid": "s", "alg": "HS256"}


@pytest.mark.parametrize(
    ("data", "algorithm"),
    [
        (ISSUER.public_pem, "none"),
        (ISSUER.public_pem, "rs256"),
        (ISSUER.public_pem, ""),
        (ISSUER.public_pem, "HS256"),
        (ISSUER.public_pem, "ES256"),
        (private_pem(), "RS256"),
        (b"garbage", "RS256"),
        (b"short secret", "HS256"),
        (b"", ""),
        (b"[]", ""),
        (b"{}", ""),
        (key_set(), ""),
        (key_set({**PUBLIC, "alg": "RS256"}), ""),
        (key_set({**PUBLIC, "kid": "r"}), ""),
        (key_set({**PUBLIC, "kid": "r", "alg": "none"}), ""),
        (key_set({**PUBLIC, "kid": "r", "alg": "HS256"}), ""),
        (key_set({**PUBLIC, "kid": 7, "alg": "RS256"}), ""),
        (key_set(*[{**PUBLIC, "kid": "r", "alg": "RS256"}] * 2), ""),
        (key_set({**PRIVATE, "kid": "r", "alg": "RS256"}), ""),
        (key_set(SHORT), ""),
    ],
)
def test_a_bad_file_is_refused(data: bytes, algorithm: str) -> None:
    """Unpinned, unfit, private, guessable or ambiguous: none of it starts a server."""
    with pytest.raises(InvalidRequest):
        read_jwt_keys(data, algorithm)


HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x5c"]),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    ),
)


def segments(*parts: bytes) -> str:
    """Bytes as a token would carry them."""
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@given(st.one_of(
    st.text(max_size=200),
    st.tuples(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=80)).map(
        lambda parts: segments(*parts)
    ),
    HEADERS.map(lambda header: segments(json.dumps(header).encode(), b"{}", b"x")),
))  # fmt: skip
def test_whatever_a_token_is_it_is_only_refused(token: str) -> None:
    """No bytes make the check fail in another way."""
    for keys in (rules(ISSUER.public_pem, "RS256"), rules(SECRET, "HS256")):
        with pytest.raises(Unauthenticated):
            read_subject(keys, token)


@pytest.mark.parametrize("part", [0, 1])
def test_json_beyond_the_stack_is_refused(part: int) -> None:
    """In the header, which anybody can write, and in claims that the issuer signed."""
    deep = b"[" * 100_000
    parts = [b'{"alg":"HS256"}', deep] if part else [deep, b"{}"]
    signed = segments(*parts).encode()
    signature = hmac.new(SECRET, signed, hashlib.sha256).digest()
    with pytest.raises(Unauthenticated):
        read_subject(rules(SECRET, "HS256"), f"{signed.decode()}.{segments(signature)}")


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), "soon", [1], {}])
def test_times_that_are_none_are_refused(claim: str, value: Any) -> None:
    """An issuer's mistake is not let in, nor does it break anything."""
    with pytest.raises(Unauthenticated):
        read_subject(rules(SECRET, "HS256"), ISSUER.token(kid=None, key="s", **{claim: value}))


def test_none_may_not_be_pinned() -> None:
    """Whatever its spelling."""
    assert not [name for name in ALGORITHMS if name.lower() == "none"]
