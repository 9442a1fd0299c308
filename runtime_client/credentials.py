"""How a client says who it is: a bearer token, given as it is or kept in a file.

A token is never shown: not in a representation, not in an error. A file is read for every call, so
that a token is renewed by replacing the file. Knows tokens; not how a call travels.
"""

from dataclasses import dataclass, field
from pathlib import Path

from cascade.errors import InvalidRequest
from cascade.system.bounded_files import read_setting
from wire.limits import MAX_TOKEN_CHARACTERS

TOKEN_VARIABLE = "CASCADE_TOKEN"  # noqa: S105  a variable's name

LINE_END = 2
"""Bytes, as editors leave them behind the token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BearerToken:
    """Where the token comes from; without either, calls carry none."""

    token: str = field(default="", repr=False)
    file: Path | None = None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call carries.

        Raises:
            InvalidRequest: the file is missing or holds no token.
        """
        token = self.token if self.file is None else read_token(self.file)
        return (("authorization", f"Bearer {token}"),) if token else ()


def read_token(path: Path) -> str:
    """The token in a file, white space around it left out.

    Raises:
        InvalidRequest: the file is missing or holds no token.
    """
    data = read_setting(path, "token_file", MAX_TOKEN_CHARACTERS + LINE_END)
    text = data.decode("ascii", "replace").strip()
    check_token(text, "token_file")
    return text


def check_token(token: str, name: str) -> None:
    """Raise `InvalidRequest` for what cannot be a token; what it is, is not quoted."""
    printable = all("!" <= c <= "~" for c in token)
    if not printable or not 1 <= len(token) <= MAX_TOKEN_CHARACTERS:
        raise InvalidRequest(
            f"{name}: expected 1 to {MAX_TOKEN_CHARACTERS} printable characters without spaces",
            field=name,
        )
