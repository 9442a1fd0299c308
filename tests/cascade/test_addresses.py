"""Addresses as text: two forms, and which of them stay on this machine."""

import pytest

from cascade.addresses import MAX_PORT, is_loopback, split_address
from cascade.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("localhost:0", ("localhost", 0)),
        ("10.0.0.1:8500", ("10.0.0.1", 8500)),
        ("[::1]:80", ("::1", 80)),
        (f"example.org:{MAX_PORT}", ("example.org", MAX_PORT)),
    ],
)
def test_host_and_port_are_parted(text: str, found: tuple[str, int]) -> None:
    """Brackets belong to the text, not to the host."""
    assert split_address(text, "listen") == found


@pytest.mark.parametrize(
    "text",
    ["", "host", ":80", "host:", "host:x", "host:-1", f"host:{MAX_PORT + 1}", "::1:80",
     "http://host:80", "host:\N{SUPERSCRIPT TWO}"],
)  # fmt: skip
def test_other_texts_are_refused_under_the_fields_name(text: str) -> None:
    """With what that field takes."""
    with pytest.raises(InvalidRequest, match="server: expected this or that, got") as found:
        split_address(text, "server", "this or that")
    assert found.value.field == "server"


@pytest.mark.parametrize(
    ("host", "here"),
    [("localhost", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True),
     ("192.0.2.1", False), ("::", False), ("example.org", False), ("127.example.org", False)],
)  # fmt: skip
def test_loopback_is_an_address_and_no_beginning_of_a_name(host: str, *, here: bool) -> None:
    """A name that begins with 127 may be anybody's."""
    assert is_loopback(host) is here
