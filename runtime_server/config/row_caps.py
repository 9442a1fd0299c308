"""`max_batch_rows` as values: how many rows may share a run, by component.

Knows the text of the setting; not which components there are.
"""

from cascade.errors import InvalidRequest
from cascade.tuning.options import AUTO

ALL = ""
"""Stands for every component that is not named."""


def parse_caps(text: str) -> dict[str, int | None]:
    """`auto`, `N`, or `COMPONENT=N,...` as caps by component; None is to be measured.

    Raises:
        InvalidRequest: none of those.
    """
    found: dict[str, int | None] = {}
    for part in text.split(","):
        name, sign, word = part.strip().rpartition("=")
        number = int(word) if word.isascii() and word.isdigit() and len(word) < 7 else 0
        if (word != AUTO and number < 1) or bool(sign) != bool(name) or name in found:
            raise InvalidRequest(
                f"max_batch_rows: expected {AUTO}, a number from 1, or COMPONENT=NUMBER,..., got "
                f"{text[:80]!r}",
                field="max_batch_rows",
            )
        found[name] = None if word == AUTO else number
    return found
