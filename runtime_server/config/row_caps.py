"""`max_batch_rows` as values: how many rows may share a run, by component.

Knows the text of the setting; not which components there are.
"""

from cascade.assignments import AUTO, parse_assignments
from cascade.errors import InvalidRequest


def parse_caps(text: str) -> dict[str, int | None]:
    """`auto`, `N`, or `COMPONENT=N,...` as caps by component; None is to be measured.

    Raises:
        InvalidRequest: none of those.
    """
    try:
        return parse_assignments(text, parse_cap)
    except ValueError as exc:
        raise InvalidRequest(
            f"max_batch_rows: expected {AUTO}, a number from 1, or COMPONENT=NUMBER,..., got "
            f"{text[:80]!r}",
            field="max_batch_rows",
        ) from exc


def parse_cap(word: str) -> int:
    """Rows, from 1.

    Raises:
        ValueError: no such number.
    """
    number = int(word) if word.isascii() and word.isdigit() and len(word) < 7 else 0
    if number < 1:
        raise ValueError(word)
    return number
