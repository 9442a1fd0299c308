"""`cascade plan`, and the flags of a placement that is chosen, as a user types them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cascade.bundle.bundle import Bundle
from cascade.commands.cli import build_parser, main
from cascade.errors import InvalidRequest
from runtime_client.cli.connection_flags import connection_config
from runtime_client.cli.plan_command import parse_what_if
from runtime_client.planning.placement_plan import WhatIf
from tests.support.serving import RunningServer, running

NAMES = ["text_encoder", "base", "sr16", "sr32"]


@pytest.fixture(scope="module")
def host(bundle: Bundle) -> Iterator[RunningServer]:
    """A server of every component."""
    with running(bundle) as server:
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is learned stays within a test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def told(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    """What a command prints as JSON."""
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def chosen(plan: Any) -> list[str]:
    """What runs here by a plan."""
    return next(run["here"] for run in plan["placements"] if run["chosen"])


def test_a_plan_says_what_each_placement_would_take(
    bundle: Bundle, host: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a table, and as one object with the same placements."""
    command = ["plan", "a cat", "--bundle", str(bundle.folder), "--server", host.address]
    plan = told(capsys, *command, "--least-bytes", "--cuts-only")
    assert chosen(plan) == NAMES
    assert chosen(plan) == plan["placements"][0]["here"]
    assert plan["placements_possible"] == 5
    assert main([*command, "--least-bytes"]) == 0
    out = capsys.readouterr().out
    assert "wanted: the fewest bytes" in out
    assert "* all here" in out
    assert "8 more that are worse" in out


def test_what_if(bundle: Bundle, host: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Facts in the place of those that are known: an endless round trip leaves everything here."""
    command = ["plan", "a cat", "--bundle", bundle.folder, "--server", host.address]
    far = told(capsys, *command, "--what-if", "rtt=50s,up=1kbit/s,down=8kbit/s,queue=40s")
    assert far["link"] == {
        "rtt_ms": 50_000.0, "up_bit_s": 1000, "down_bit_s": 8000, "from": far["link"]["from"],
    }  # fmt: skip
    assert sum(spec["queue_ms"] for spec in far["components"]) == 40_000
    assert chosen(far) == NAMES
    kept = told(capsys, *command, "--what-if", "queue=4000s", "--words-stay-here")
    assert chosen(kept) == NAMES
    assert kept["wish"]["words_stay_here"]


def test_generate_explains_its_choice(
    bundle: Bundle, host: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the object, and below the table; the flags of the wish are those of `plan`."""
    there = ["generate", "a cat", "-o", str(tmp_path / "a.png"), "--bundle", str(bundle.folder)]
    there += ["--server", host.address, "--threads", "1"]
    least = told(capsys, *there, "--cut", "auto", "--least-energy")
    assert (least["cut"], chosen(least["plan"])) == (0, [])
    kept = told(capsys, *there, "--placement", "auto", "--least-energy", "--words-stay-here")
    assert (kept["cut"], chosen(kept["plan"])) == (1, ["text_encoder"])
    late = told(capsys, *there, "--cut", "auto", "--within", "1ms")
    assert late["plan"]["met"] is False
    assert main([*there, "--cut", "auto", "--least-bytes", "--within", "900s"]) == 0
    assert "wanted: the fewest bytes within 900 s" in capsys.readouterr().out
    fixed = told(capsys, *there, "--cut", "0")
    assert fixed["plan"] is None


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["--within", "1s"], "wish"),
        (["--cut", "auto", "--within", "soon"], "within"),
        (["--cut", "auto", "--within", "0"], "within"),
        (["--cut", "best"], "cut"),
        (["--cut", "auto", "--placement", "auto"], "placement"),
    ],
)
def test_flags_that_contradict_each_other(
    bundle: Bundle, words: list[str], field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the flag."""
    assert main(["generate", "a", "-o", "x.png", "--bundle", str(bundle.folder), *words]) != 0
    assert field in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["", "rtt", "rtt=", "rtt=fast", "speed=3", "rtt=1s,rtt=2s", "up=1", "queue=2"]
)
def test_facts_that_are_none(text: str) -> None:
    """The field is named."""
    with pytest.raises(InvalidRequest) as refused:
        parse_what_if(text)
    assert refused.value.field == "what-if"


def test_facts_are_read() -> None:
    """Units as those of a shaped link."""
    assert parse_what_if("rtt=80ms,up=1Mbit/s") == WhatIf(rtt_s=0.08, up_bytes_s=125_000.0)
    assert parse_what_if("down=unshaped,queue=2s") == WhatIf(down_bytes_s=1e12, queue_s=2.0)


def test_a_plan_follows_the_request(
    bundle: Bundle, host: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its stages, its steps, and what was asked of engines here."""
    command = ["plan", "a cat", "--bundle", bundle.folder, "--server", host.address]
    whole = told(capsys, *command, "--least-energy", "--within", "900s")
    assert (whole["objective"], whole["met"], chosen(whole)) == ("energy", True, [])
    short = told(capsys, *command, "--last-stage", "sr16", "--threads", "1")
    assert [spec["name"] for spec in short["components"]] == NAMES[:3]
    base = whole["components"][1]["there_ms"]
    longer = told(capsys, *command, "--set", "base.steps=900")
    assert longer["components"][1]["there_ms"] > base
    same = told(capsys, *command, "--engine", "ort", "--precision", "fp32")
    assert same["placements_possible"] == whole["placements_possible"]
    assert main([*map(str, command), "--precision", "int8"]) == 2
    assert "precision" in capsys.readouterr().err


def test_the_connection_is_that_of_generate() -> None:
    """Every flag of credentials and patience comes to the same configuration."""
    flags = "--server localhost:1 --tls --token-file t --token-over-plaintext --timeout 9 --wait 2"
    flags += " --require-signature key.pub"
    parser = build_parser()
    plan, generate = (parser.parse_args([name, *flags.split()]) for name in ("plan", "generate"))
    assert connection_config(plan) == connection_config(generate)
    assert connection_config(plan).timeout_s == 9
    for flag in ("--ca", "--client-cert", "--client-key"):
        args = parser.parse_args(["plan", *flags.split(), flag, "/missing"])
        with pytest.raises(InvalidRequest):
            connection_config(args)
    args = parser.parse_args(["plan", "--server", "localhost:1", "--token", "t" * 40])
    assert connection_config(args).token == "t" * 40
