"""`cascade bench run` on a true bundle in miniature, and the values that its flags come to."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.flags import config_of, link_of, plan_of
from cascade.bundle.bundle import Bundle
from cascade.commands.cli import build_parser, main
from cascade.errors import InvalidRequest
from runtime_client.wish import Wish
from tests.support.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/benchmark-record.md"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle in miniature."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bench") / "tiny")


@pytest.fixture(scope="module")
def record(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Of an open loop over a shaped link, half here and half in a private server."""
    path = tmp_path_factory.mktemp("record") / "record.json"
    words = ["bench", "run", "--bundle", str(bundle.folder), "-o", str(path)]
    words += ["--load", "open", "--rate", "50", "--requests", "6", "--check", "4", "--threads", "1"]
    words += ["--quiet", "--rtt", "10ms", "--warm-up", "1", "--unloaded", "2", "--repeats", "2"]
    assert main([*words, "--write", "png"]) == 0
    return json.loads(path.read_text())


def test_every_picture_is_that_of_the_local_run(record: Any) -> None:
    """Three stages of four checked requests, over a link and under load."""
    pictures = record["phases"]["measured"]["pictures"]
    assert pictures == {"equal": 12, "different": 0, "unchecked": 6}


def test_the_hops_are_those_of_the_work_and_add_up(record: Any) -> None:
    """In order, with what is unexplained as the last; together the time from sending to the end."""
    measured = record["phases"]["measured"]
    samples, hops = measured["samples"], measured["hops"]
    names = [
        "encode",
        "base",
        "upload",
        "sr16",
        "sr32",
        "server pack",
        "unpack",
        "write",
        "residual",
    ]
    assert [name for name in hops if name in names] == names
    spent = sum(d - s for d, s in zip(samples["done_s"], samples["sent_s"], strict=True))
    assert sum(h["mean_s"] for h in hops.values()) == pytest.approx(spent / 6, abs=1e-5)


def test_a_round_trip_is_seen(record: Any) -> None:
    """No picture of the server's is there before it, and a cold one needs a handshake too."""
    measured = record["phases"]["measured"]
    samples = measured["samples"]
    for sent, second in zip(samples["sent_s"], samples["pictures_s"]["sr16"], strict=True):
        assert second - sent >= 0.010
    (cold,) = record["phases"]["cold"]
    assert cold["latency_s"] >= 0.020
    assert cold["with_opening_s"] == pytest.approx(cold["opening_s"] + cold["latency_s"])


def test_both_sides_are_measured(record: Any) -> None:
    """Processor and memory of client and server, goodput, the audit of repeats."""
    measured = record["phases"]["measured"]
    assert set(measured["usage"]) == {"client", "server"}
    assert all(use["peak_mib"] > 0 for use in measured["usage"].values())
    assert measured["goodput"]["objective_s"] > 0
    audit = record["phases"]["repeats"]["audit"]
    assert (audit["count"], audit["caching"], audit["passed"]) == (2, ["contexts"], True)


def test_a_record_describes_itself(record: Any, bundle: Bundle) -> None:
    """What was measured, of what, on what."""
    system = record["system"]
    assert (system["bundle_id"], system["cut"], system["server"]) == (
        bundle.bundle_id,
        2,
        "private",
    )
    assert system["link"]["rtt_s"] == 0.01
    assert system["computed"]["sr32"] == "ort fp32"
    assert record["surroundings"]["packages"]["onnxruntime"]
    assert record["workload"]["prompts"] == 64
    assert record["load"]["arrivals"]["rate_per_s"] == 50


def fields(value: Any, name: str = "") -> Iterator[str]:
    """Every field of a record by its own name; below names that vary, only what they hold."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if name not in {"hops", "pictures_s", "packages", "errors", "usage", "computed"}:
                yield key
            yield from fields(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from fields(inner, name)


def test_every_field_is_in_the_reference(record: Any) -> None:
    """docs/reference/benchmark-record.md names each."""
    documented = set(re.findall(r"`([a-z0-9_]+)`", PAGE.read_text()))
    assert set(fields(record)) - documented == set()


def parsed(*words: str) -> Any:
    """The arguments of a command line."""
    return build_parser(["bench"]).parse_args(["bench", "run", "-o", "x.json", *words])


def test_flags_become_a_plan() -> None:
    """Each its field."""
    plan = plan_of(
        parsed(
            "--load", "closed", "--arrivals", "gamma", "--rate", "3", "--shape", "0.5",
            "--arrival-seed", "9", "--clients", "2", "--requests", "7", "--seconds", "5",
            "--warm-up", "1", "--unloaded", "4", "--objective", "2", "--cold", "0",
            "--repeats", "3", "--check", "6",
        )
    )  # fmt: skip
    arrivals = plan.arrivals
    assert (arrivals.kind, arrivals.rate_per_s, arrivals.shape, arrivals.seed) == (
        "gamma",
        3,
        0.5,
        9,
    )
    assert (plan.load, plan.clients, plan.requests, plan.seconds) == ("closed", 2, 7, 5)
    assert (plan.warm_up, plan.unloaded, plan.objective) == (1, 4, 2)
    assert (plan.cold, plan.repeats, plan.check) == (0, 3, 6)
    trace = plan_of(parsed("--arrivals", "trace", "--trace", "t.txt")).arrivals.trace
    assert trace == Path("t.txt")


def test_flags_become_a_link() -> None:
    """Each its field."""
    link = link_of(
        parsed(
            "--rtt", "80ms", "--down", "10Mbit/s", "--up", "1Mbit/s", "--loss", "0.01",
            "--stalls", "500ms/10s", "--link-seed", "4",
        )
    )  # fmt: skip
    assert (link.rtt_s, link.down_bit_s, link.up_bit_s) == (0.08, 1e7, 1e6)
    assert (link.loss, link.stall_s, link.stall_every_s, link.seed) == (0.01, 0.5, 10, 4)


def test_flags_become_a_client() -> None:
    """As those of `cascade generate` do; files of credentials are looked for."""
    there = ["--server", "localhost:1", "--tls"]
    words = ["--token", "t" * 40, "--token-over-plaintext", "--require-signature", "key.pub"]
    words += ["--timeout", "9", "--wait", "2", "--threads", "3", "--engine", "ort"]
    config = config_of(parsed(*there, *words, "--precision", "fp32", "--cut", "3"))
    assert (config.cut, config.server, config.tls) == (3, "localhost:1", True)
    assert (config.token, config.token_over_plaintext) == ("t" * 40, True)
    assert (config.timeout_s, config.wait_s, config.threads) == (9, 2, 3)
    assert (config.engine, config.precision) == ("ort", "fp32")
    assert config.require_signature == Path("key.pub")
    assert config_of(parsed(*there, "--token-file", "t")).token_file == Path("t")
    for flag in ("--ca", "--client-cert", "--client-key"):
        args = parsed(*there, flag, "/missing")
        with pytest.raises(InvalidRequest):
            config_of(args)


def test_flags_place_the_client() -> None:
    """A cut, names, or a wish."""
    assert config_of(parsed()).cut == 2
    assert config_of(parsed("--here", "base")).placed == {"base": "here", "*": "there"}
    assert config_of(parsed("--there", "base=a:1")).placed == {"base": "a:1", "*": "here"}
    assert config_of(parsed("--placement", "*=here")).placed == {"*": "here"}
    auto = config_of(parsed("--cut", "auto", "--within", "2s", "--words-stay-here"))
    assert (auto.is_auto, auto.wish) == (True, Wish(within_s=2.0, words_stay_here=True))
    for flag, least in (("--least-bytes", "bytes"), ("--least-energy", "energy")):
        assert config_of(parsed("--placement", "auto", flag)).wish.least == least


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--requests", "0"], "requests: expected 1"),
        (["--clients", "999"], "clients: expected 1 to 256"),
        (["--objective", "0"], "objective"),
        (["--seconds", "0"], "seconds"),
        (["--warm-up", "-1"], "warm-up"),
        (["--cut", "9"], "cut"),
        (["--prompts", "/missing"], "prompts"),
        (["-o", "/missing/x.json"], "output"),
    ],
)
def test_wrong_flags_fail_in_one_line(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    words: list[str], message: str,
) -> None:  # fmt: skip
    """Before anything is opened; the last of two flags counts."""
    given = ["bench", "run", "--bundle", str(bundle.folder), "-o", str(tmp_path / "x.json")]
    assert main([*given, *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
