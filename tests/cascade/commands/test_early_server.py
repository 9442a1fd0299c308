"""Which command lines start a server early."""

import pytest

from cascade.commands.early_server import MODULES, wants_server


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("generate apple -o a.png", True),
        ("generate apple -o a.png --seed=7 --threads 1", True),
        ("generate apple -o a.png --server=127.0.0.1:1", False),
        ("generate apple -o a.png --cut 4", False),
        ("generate --help", False),
        ("generate", False),
        ("serve --listen 127.0.0.1:1", False),
        ("", False),
    ],
)
def test_a_picture_at_the_default_cut_needs_a_server(line: str, *, wanted: bool) -> None:
    """And with a flag that says otherwise it may not."""
    assert wants_server(line.split()) is wanted


def test_what_is_imported_early_is_there() -> None:
    """A module that was renamed would end the child before its command comes."""
    from importlib.util import find_spec

    assert all(find_spec(name) is not None for name in MODULES)
