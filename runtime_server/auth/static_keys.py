"""Bearer tokens that an operator handed out: kept only as their sha256, compared in constant time.

A file in TOML holds `name = "sha256 in hex"`, one line per caller. The tokens are random 256-bit
numbers, so a plain hash cannot be turned back by guessing. Knows the file and the comparison; not
how a token arrives.
"""

import hashlib
import hmac
import re
import secrets
import tomllib
from collections.abc import Mapping

from cascade.errors import InvalidRequest

TOKEN_PREFIX = "cascade_"  # noqa: S105  what every token begins with, so that scanners find leaks
TOKEN_BYTES = 32
MAX_KEYS = 1000
"""Every token is compared with every key."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
HASH = re.compile(r"[0-9a-f]{64}")


def make_token() -> str:
    """A new token of 256 random bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def hash_token(token: str) -> str:
    """What is kept of a token: sha256 of its UTF-8 bytes, in hex."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def read_keys(data: bytes) -> Mapping[str, str]:
    """Hash by name, from the bytes of a file of keys.

    Raises:
        InvalidRequest: not TOML, or a name or a hash is malformed.
    """
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        # What is wrong is not quoted: somebody may have written the token itself.
        raise InvalidRequest(
            'token_keys: expected lines of the form name = "sha256 in hex"', field="token_keys"
        ) from exc
    if len(table) > MAX_KEYS:
        raise InvalidRequest(
            f"token_keys: {len(table)} keys, at most {MAX_KEYS} are compared", field="token_keys"
        )
    for name, value in table.items():
        check_name(name)
        if not isinstance(value, str) or not HASH.fullmatch(value):
            raise InvalidRequest(
                f"token_keys: {name} is not a sha256 in 64 hex digits; `cascade token {name}` "
                "makes one",
                field="token_keys",
            )
    return table


def check_name(name: str) -> None:
    """Raise `InvalidRequest` unless it can name a caller in a log and in a file of keys."""
    if not NAME.fullmatch(name):
        raise InvalidRequest(
            f"name: expected 1 to 64 of [A-Za-z0-9._@-], got {name[:80]!r}", field="name"
        )


def match_token(keys: Mapping[str, str], token: str) -> str | None:
    """The name whose key a token is; all keys are compared, whichever fits.

    Args:
        keys: hash by name.
        token: as it came.
    """
    presented = hash_token(token)
    found = None
    for name, kept in keys.items():
        # No early return: the time must not say which key, or that one fitted.
        if hmac.compare_digest(presented, kept):
            found = name
    return found
