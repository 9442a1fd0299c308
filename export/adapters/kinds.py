"""Kinds of other people's cascades, by the name that `--from` takes, and where each is found.

Read by the command line for its help, before anything of torch is loaded.
"""

from collections.abc import Mapping

KINDS: Mapping[str, str] = {
    "diffusers-if": "FOLDER",
    "diffusers-sd": "FOLDER",
    "guided-diffusion": "FOLDER",
    "imagen-pytorch": "FOLDER",
    "sr3": "FOLDER",
    "torch": "MODULE:FACTORY",
}
"""Name to what follows it."""


def in_words() -> str:
    """`A FOLDER, B FOLDER or torch MODULE:FACTORY`."""
    *others, last = (f"{name} {where}" for name, where in KINDS.items())
    return f"{', '.join(others)} or {last}"
