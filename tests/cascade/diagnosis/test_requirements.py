"""Requirements as pip writes them."""

import pytest

from cascade.diagnosis.requirements import Requirement, parse_requirement


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("numpy<3,>=2.0", Requirement(name="numpy", range=">=2.0,<3")),
        ("PyJWT>=2; extra == 'server'", Requirement(name="pyjwt", range=">=2", extra="server")),
        (
            'edge-cascade[sign,cpu]; extra == "server"',
            Requirement(name="edge-cascade", extras=("sign", "cpu"), extra="server"),
        ),
        ("grpcio_status", Requirement(name="grpcio-status")),
    ],
)  # fmt: skip
def test_a_line_of_metadata(text: str, expected: Requirement) -> None:
    """Name, range, extras and the extra that needs it."""
    assert parse_requirement(text) == expected


@pytest.mark.parametrize(
    ("range_", "version", "allowed"),
    [
        (">=2.0,<3", "2.4.6", True),
        (">=2.0,<3", "3.0", False),
        (">=2.0,<3", "1.26.4", False),
        (">=2.0", "2", True),
        ("==2.13.0", "2.13.0+cpu", True),
        ("==2.13.0", "2.13.1", False),
        ("~=1.4.2", "1.4.9", True),
        ("~=1.4.2", "1.5.0", False),
        ("!=1.0", "1.0.0", False),
        ("", "0.0", True),
        (">=1.9", "1.10rc1", True),
    ],
)
def test_a_version_in_a_range(range_: str, version: str, *, allowed: bool) -> None:
    """Numbers are compared as numbers, missing ones as zero, builds not at all."""
    assert Requirement(name="x", range=range_).allows(version) is allowed
