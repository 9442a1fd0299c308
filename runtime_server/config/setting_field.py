"""The help text of a configuration's field, kept with the field: nothing has to read the source.

Knows dataclasses; neither flags nor files.
"""

from collections.abc import Mapping

HELP = "help"
"""Key of the text in a field's metadata."""


def means(text: str) -> Mapping[str, str]:
    """The metadata of a field.

    Args:
        text: what the field means, for `--help`, the TOML file and the manual.
    """
    return {HELP: text}
