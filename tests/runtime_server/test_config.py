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
    keys = {"listen": listen, "token_keys": Path("t")}
    assert ServerConfig(bundle=Path("b"), **keys, insecure=True).insecure
    assert ServerConfig(bundle=Path("b"), **keys, **pair).tls_cert == Path("c")


NAMED = [
    {"token_keys": Path("t")},
    {"jwt_keys": Path("j"), "jwt_audience": "a"},
    {"tls_client_ca": Path("a")},
]


def test_beyond_this_machine_callers_say_who_they_are() -> None:
    """Or the operator lets everybody in, in so many words."""
    far: dict[str, Any] = {"listen": "0.0.0.0:1", "tls_cert": Path("c"), "tls_key": Path("k")}
    with pytest.raises(InvalidRequest, match="--token-keys") as refused:
        ServerConfig(bundle=Path("b"), **far)
    assert refused.value.field == "anonymous"
    assert ServerConfig(bundle=Path("b"), **far, anonymous="allow").anonymous_allowed
    for settings in NAMED:
        assert not ServerConfig(bundle=Path("b"), **far, **settings).anonymous_allowed


@pytest.mark.parametrize("listen", ["0.0.0.0:9090", "[::]:9090", "10.0.0.7:9090", "example.org:1"])
def test_the_operators_port_is_this_machines(listen: str) -> None:
    """Unless the operator insists."""
    with pytest.raises(InvalidRequest, match="--metrics-remote") as refused:
        ServerConfig(bundle=Path("b"), metrics_listen=listen)
    assert refused.value.field == "metrics_listen"
    remote = ServerConfig(bundle=Path("b"), metrics_listen=listen, metrics_remote=True)
    assert remote.metrics_listen == listen
    assert ServerConfig(bundle=Path("b"), metrics_listen="127.0.0.1:9090").metrics_listen


@pytest.mark.parametrize("settings", NAMED)
def test_anonymous_ends_where_callers_have_names(settings: dict[str, Any]) -> None:
    """On this machine everybody is let in until keys or an authority are configured."""
    pair = {"tls_cert": Path("c"), "tls_key": Path("k")}
    assert ServerConfig(bundle=Path("b")).anonymous_allowed
    assert ServerConfig(bundle=Path("b"), listen="unix:/s").anonymous_allowed
    assert not ServerConfig(bundle=Path("b"), **pair, **settings).anonymous_allowed
    allowing = ServerConfig(bundle=Path("b"), **pair, **settings, anonymous="allow")
    assert allowing.anonymous_allowed


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
        ({"max_in_flight_bytes": 0}, "max_in_flight_bytes"),
        ({"max_in_flight_per_identity": 0}, "max_in_flight_per_identity"),
        ({"result_store_bytes": -1}, "result_store_bytes"),
        ({"result_lifetime_s": -1.0}, "result_lifetime_s"),
        ({"max_linger_s": float("nan")}, "max_linger_s"),
        ({"reader_patience_s": 0.0}, "reader_patience_s"),
        ({"context_lifetime_s": float("nan")}, "context_lifetime_s"),
        ({"drain_grace_s": -0.1}, "drain_grace_s"),
        ({"tls_cert": Path("c")}, "tls_cert"),
        ({"tls_client_ca": Path("c")}, "tls_client_ca"),
        ({"jwt_keys": Path("k")}, "jwt_audience"),
        ({"jwt_audience": "a"}, "jwt_keys"),
        ({"jwt_issuer": "a"}, "jwt_keys"),
        ({"jwt_algorithm": "RS256"}, "jwt_keys"),
        ({"anonymous": "perhaps"}, "anonymous"),
        ({"anonymous": "refuse"}, "anonymous"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], field: str) -> None:
    """Each is refused at once with the setting's name."""
    with pytest.raises(InvalidRequest) as refused:
        ServerConfig(bundle=Path("b"), **settings)
    assert refused.value.field == field
