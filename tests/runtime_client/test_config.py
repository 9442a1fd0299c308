"""A configuration is checked when it is made, and against the bundle when a client is."""

from pathlib import Path
from typing import Any

import pytest

from cascade.bundle.bundle import Bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import InvalidRequest
from cascade.request import GenerateRequest
from runtime_client.client import Client
from runtime_client.config import ClientConfig, is_on_this_machine
from runtime_client.request_checks import check_request


@pytest.mark.parametrize(
    ("choices", "field"),
    [
        ({"cut": -1}, "cut"),
        ({"threads": -1}, "threads"),
        ({"fallback": "maybe"}, "fallback"),
        ({"timeout_s": 0.0}, "timeout_s"),
        ({"picture_format": "gif"}, "picture_format"),
        ({"picture_format": "jpeg", "fallback": "local"}, "picture_format"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"dead_link_s": 0.0}, "dead_link_s"),
        ({"dead_link_s": float("nan")}, "dead_link_s"),
        ({"server": "nowhere"}, "server"),
        ({"server": "unix:"}, "server"),
        ({"server": "host:port"}, "server"),
        ({"server": "host:70000"}, "server"),
        ({"server": "http://host:80"}, "server"),
        ({"tls": True}, "tls"),
        ({"server": "host:1", "tls_name": "host"}, "tls_name"),
        ({"server": "host:1", "ca_file": Path("ca.pem")}, "ca_file"),
        ({"server": "host:1", "tls": True, "ca_file": Path("/missing/ca.pem")}, "ca_file"),
    ],
)
def test_wrong_choices_name_their_field(choices: dict[str, Any], field: str) -> None:
    """Each mistake is refused under its own name."""
    with pytest.raises(InvalidRequest) as found:
        ClientConfig(**choices)
    assert found.value.field == field


@pytest.mark.parametrize("server", ["host:1", "127.0.0.1:8500", "[::1]:8500", "unix:/run/a.sock"])
def test_addresses_are_accepted(server: str) -> None:
    """host:port and unix:PATH."""
    assert ClientConfig(server=server).server == server


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("unix:/a", True),
        ("localhost:1", True),
        ("127.0.0.1:1", True),
        ("[::1]:1", True),
        ("example.org:1", False),
        ("10.0.0.1:1", False),
    ],
)
def test_the_own_machine_is_known(address: str, *, here: bool) -> None:
    """Loopback and Unix sockets are this machine."""
    assert is_on_this_machine(address) is here


def test_a_cut_beyond_the_bundle_is_refused(bundle: Bundle) -> None:
    """The message says which cuts there are."""
    with pytest.raises(InvalidRequest, match="0 to 4, got 5") as found:
        Client(bundle, cut=5)
    assert found.value.field == "cut"


def test_keywords_go_over_the_configuration(bundle: Bundle) -> None:
    """`Client(bundle, config, cut=3)` is that configuration with another cut."""
    client = Client(bundle, ClientConfig(cut=1, threads=1), cut=3)
    assert client.config == ClientConfig(cut=3, threads=1)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (GenerateRequest(), "prompt"),
        (GenerateRequest(prompt="a", last_stage="sr64"), "last_stage"),
        (GenerateRequest(prompt="a", last_stage="text_encoder"), "last_stage"),
        (GenerateRequest(prompt="a", options={"sr64": DiffusionOptions(steps=1)}), "options"),
        (
            GenerateRequest(prompt="a", options={"text_encoder": DiffusionOptions(steps=1)}),
            "options.text_encoder",
        ),
        (
            GenerateRequest(prompt="a", options={"sr32": DiffusionOptions(augmentation=0.9)}),
            "options.sr32.augmentation",
        ),
        (
            GenerateRequest(prompt="a", options={"base": DiffusionOptions(augmentation=0.1)}),
            "options.base.augmentation",
        ),
    ],
)
def test_requests_are_checked_before_any_work(
    bundle: Bundle, request_: GenerateRequest, field: str
) -> None:
    """A wrong option of the last stage is refused before the first one runs."""
    with pytest.raises(InvalidRequest) as found:
        check_request(bundle.manifest, request_)
    assert found.value.field == field


def test_the_last_position_is_found(bundle: Bundle) -> None:
    """By name, or the cascade's last."""
    assert check_request(bundle.manifest, GenerateRequest(prompt="a")).last == 3
    assert check_request(bundle.manifest, GenerateRequest(prompt="a", last_stage="base")).last == 1
