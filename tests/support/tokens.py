"""Tokens for tests: keys of an issuer, the files a server knows them by, and what it signs."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

AUDIENCE = "cascade.test"
ISSUER = "https://issuer.test"
SECRET = b"a secret of the tests, of 32 bytes or more"


class Issuer:
    """An issuer with an RSA key `r`, an elliptic one `e` and a secret `s`."""

    def __init__(self) -> None:
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.keys: dict[str, tuple[str, Any]] = {
            "r": ("RS256", self.rsa),
            "e": ("ES256", self.ec),
            "s": ("HS256", SECRET),
        }

    @property
    def public_pem(self) -> bytes:
        """The public RSA key."""
        return self.rsa.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def write_key_set(self, path: Path, kids: str = "res") -> Path:
        """A JWK set of public keys and the secret, each with its `kid` and `alg`."""
        entries = []
        for kid in kids:
            algorithm, key = self.keys[kid]
            public = key if isinstance(key, bytes) else key.public_key()
            entry = jwt.get_algorithm_by_name(algorithm).to_jwk(public, as_dict=True)
            entries.append({**entry, "kid": kid, "alg": algorithm})
        path.write_text(json.dumps({"keys": entries}))
        return path

    def token(self, *, kid: str | None = "r", key: str = "r", **claims: Any) -> str:
        """A signed token; claims of None are left out."""
        algorithm, signing = self.keys[key]
        headers = {} if kid is None else {"kid": kid}
        return jwt.encode(claims_of(claims), signing, algorithm=algorithm, headers=headers)


def claims_of(changes: dict[str, Any]) -> dict[str, Any]:
    """Good claims, and what is changed about them."""
    now = time.time()
    good = {"sub": "alice", "aud": AUDIENCE, "iss": ISSUER, "exp": now + 600, "nbf": now - 60}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def unsigned(header: dict[str, Any], **claims: Any) -> str:
    """A token with whatever header and no signature."""
    parts = [json.dumps(part).encode() for part in (header, claims_of(claims))]
    return ".".join(base64.urlsafe_b64encode(p).rstrip(b"=").decode() for p in (*parts, b""))


def forged_with_public_key(public_pem: bytes, **claims: Any) -> str:
    """Signed with HMAC, its secret being the public key that the server verifies with.

    Made by hand: PyJWT refuses to sign so.
    """
    import hashlib
    import hmac

    text = unsigned({"alg": "HS256", "typ": "JWT", "kid": "r"}, **claims).rpartition(".")[0]
    digest = hmac.new(public_pem, text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
