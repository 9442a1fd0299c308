"""The server's configuration: what is refused before anything starts."""

from pathlib import Path
from typing import Any

import pytest

from cascade.errors import InvalidRequest
from runtime_server import ServerConfig


@pytest.mark.parametrize(
    "listen",
    ["127.0.0.1:7860", "localhost:0", "[::1]:7860", "127.8.9.1:80", "unix:/run/cascade.sock"],
)
def test_plaintext_is_allowed_on_this_machine(listen: str) -> None:
    """Loopback and Unix sockets need no TLS."""
    assert ServerConfig(bundle=Path("b"), listen=listen).listen == listen


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:7860", "[::]:7860", "10.0.0.7:7860", "example.org:443", "localhost.evil:1"]
)
def test_plaintext_beyond_this_machine_is_refused(listen: str) -> None:
    """Unless TLS is given, or the operator insists."""
    with pytest.raises(InvalidRequest, match="--insecure") as refused:
        ServerConfig(bundle=Path("b"), listen=listen)
    assert refused.value.field == "listen"
    pair = {"tls_cert": Path("c"), "tls_key": Path("k")}
    assert ServerConfig(bundle=Path("b"), listen=listen, insecure=True).insecure
    assert ServerConfig(bundle=Path("b"), listen=listen, **pair).tls_cert == Path("c")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"listen": "7860"}, "listen"),
        ({"listen": "localhost"}, "listen"),
        ({"listen": "localhost:x"}, "listen"),
        ({"listen": "localhost:65536"}, "listen"),
        ({"listen": "::1:80"}, "listen"),
        ({"listen": "unix:"}, "listen"),
        ({"listen": "unix:/" + "x" * 200}, "listen"),
        ({"cut": -1}, "cut"),
        ({"threads": -1}, "threads"),
        ({"max_queued_per_stage": 0}, "max_queued_per_stage"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"context_store_bytes": -1}, "context_store_bytes"),
        ({"context_lifetime_s": float("nan")}, "context_lifetime_s"),
        ({"drain_grace_s": -0.1}, "drain_grace_s"),
        ({"tls_cert": Path("c")}, "tls_cert"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], field: str) -> None:
    """Each is refused at once with the setting's name."""
    with pytest.raises(InvalidRequest) as refused:
        ServerConfig(bundle=Path("b"), **settings)
    assert refused.value.field == field
