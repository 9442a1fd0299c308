"""What a placement means: lists, names, places, and what is refused."""

import pytest

from cascade.bundle.bundle import Bundle
from cascade.errors import InvalidRequest
from runtime_client.config import ClientConfig
from runtime_client.placement import Hop, parse_here_there, parse_placement, placement_of

THERE_AT = "sr32=other:7860"


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        (None, None, None),
        ("base", None, {"base": "here", "*": "there"}),
        (None, f"sr16,{THERE_AT}", {"sr16": "there", "sr32": "other:7860", "*": "here"}),
        ("base", "text_encoder", {"base": "here", "text_encoder": "there"}),
    ],
)
def test_two_lists_are_one_map(
    here: str | None, there: str | None, expected: dict[str, str] | None
) -> None:
    """Of one list alone the rest is on the other side; of two, each component is in one."""
    assert parse_here_there(here, there) == expected


@pytest.mark.parametrize(
    ("here", "there"), [("base,", None), ("base=x:1", None), (None, "sr16="), ("base", "base")]
)
def test_lists_that_are_none_are_refused(here: str | None, there: str | None) -> None:
    """An empty name, an address here, an address that is empty, a component on both sides."""
    with pytest.raises(InvalidRequest):
        parse_here_there(here, there)


def test_a_map_says_the_same_as_text() -> None:
    """And refuses what is no pair."""
    assert parse_placement("base=here,*=there") == {"base": "here", "*": "there"}
    for text in ("base", "base=", "=here", "base=here,base=there"):
        with pytest.raises(InvalidRequest) as found:
            parse_placement(text)
        assert found.value.field == "placement"


def test_hops_are_components_in_a_row_in_one_place(bundle: Bundle) -> None:
    """An address that is the server's own is the same place."""
    placed = {"base": "here", "sr16": "a:1", "*": "there"}
    placement = placement_of(bundle.manifest, 0, placed, "a:1")
    assert placement.hops(range(4)) == [
        Hop("there", range(1)),
        Hop("here", range(1, 2)),
        Hop("there", range(2, 4)),
    ]
    assert placement.cut is None
    assert placement.without("there", 2).places == ("there", "here", "here", "here")
    assert placement_of(bundle.manifest, 3, None, None).cut == 3


@pytest.mark.parametrize(
    ("placed", "words"),
    [({"sr64": "here", "*": "here"}, "no component 'sr64'"), ({"base": "here"}, "placed nowhere")],
)
def test_a_placement_must_fit_the_bundle(
    bundle: Bundle, placed: dict[str, str], words: str
) -> None:
    """Every name is a component, and every component is somewhere."""
    with pytest.raises(InvalidRequest, match=words):
        placement_of(bundle.manifest, 0, placed, None)


@pytest.mark.parametrize("place", ["nowhere", "host:0", "", "unix:"])
def test_a_place_is_here_there_or_an_address(place: str) -> None:
    """Anything else is refused before any work."""
    with pytest.raises(InvalidRequest):
        ClientConfig(placement={"base": place})


def test_a_token_is_for_every_server_that_is_named() -> None:
    """So the connection to each of them must be encrypted."""
    placed = {"sr32": "far.example:7860", "*": "here"}
    with pytest.raises(InvalidRequest, match=r"far\.example"):
        ClientConfig(placement=placed, server="localhost:1", token="x" * 8)
    assert ClientConfig(placement=placed, server="localhost:1").addresses == (
        "localhost:1",
        "far.example:7860",
    )
