"""`caller_weights` as values: shares of the device by caller.

Knows the text of the setting; not who calls.
"""

import math

from cascade.errors import InvalidRequest

LEAST_WEIGHT, MOST_WEIGHT = 0.01, 100.0
"""Beyond them a share is a queue of its own: give that caller another server."""


def parse_caller_weights(text: str) -> dict[str, float]:
    """`CALLER=WEIGHT,...` as weights by caller; empty text is none.

    Raises:
        InvalidRequest: another text, a weight out of range, or a caller given twice.
    """
    found: dict[str, float] = {}
    for part in filter(None, (word.strip() for word in text.split(","))):
        # The last sign: a certificate's name may hold one.
        name, _, word = part.rpartition("=")
        try:
            weight = float(word)
        except ValueError:
            weight = math.nan
        if not name or not LEAST_WEIGHT <= weight <= MOST_WEIGHT or name in found:
            raise InvalidRequest(
                f"caller_weights: expected CALLER=WEIGHT,... with weights from {LEAST_WEIGHT} to "
                f"{MOST_WEIGHT:g} and each caller once, got {part[:80]!r}",
                field="caller_weights",
            )
        found[name] = weight
    return found
