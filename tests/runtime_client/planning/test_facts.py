"""Facts of a request: what is measured, what fills a gap, and what must not change a picture."""

from dataclasses import replace

import pytest

from cascade.bundle.bundle import Bundle
from cascade.families import cost_of, resolved
from cascade.precision import Precision
from cascade.request import GenerateRequest
from runtime_client.planning.cost_model import ComponentFacts
from runtime_client.planning.facts import (
    GUESSED_RTT_S,
    LOCAL_BYTES_S,
    DeviceView,
    HostedFacts,
    KnownFacts,
    ServerView,
    Sources,
    component_facts,
    link_facts,
)
from runtime_client.planning.learned import Learned

NAMES = ("text_encoder", "base", "sr16", "sr32")
NOW = 1000.0


def hosted(
    step_s: float = 0.0, queued: int = 0, precision: Precision = Precision.FP32
) -> HostedFacts:
    """A component as a server announces it."""
    return HostedFacts(precision=precision, step_s=step_s, queued=queued, units=2)


def known_of(
    there: dict[str, HostedFacts], device: Learned | None = None, link: Learned | None = None
) -> KnownFacts:
    """A device that can run everything in float32."""
    return KnownFacts(
        device=DeviceView(precisions=dict.fromkeys(NAMES, Precision.FP32)),
        server=ServerView(hosted=there),
        of_device=device or Learned(),
        of_link=link or Learned(),
        now_s=NOW,
    )


def facts_of(
    bundle: Bundle, known: KnownFacts, prompt: str = "a cat"
) -> tuple[dict[str, ComponentFacts], Sources]:
    """By name."""
    components = bundle.manifest.components
    request = resolved(components, GenerateRequest(prompt=prompt))
    facts, sources = component_facts(components, 0, request, known)
    return {spec.name: spec for spec in facts}, sources


def test_nothing_measured_is_guessed_and_called_so(bundle: Bundle) -> None:
    """Both sides, with the device taken for half as fast; every guess grows with its pixels."""
    facts, sources = facts_of(bundle, known_of(dict.fromkeys(NAMES, hosted())))
    assert set(sources.here.values()) == set(sources.there.values()) == {"guess"}
    for spec in facts.values():
        assert spec.here_s == 2 * (spec.there_s or 0)
    link, from_what = link_facts(known_of({}))
    assert (link.rtt_s, set(from_what.values())) == (GUESSED_RTT_S, {"guess"})


def test_a_side_that_is_unknown_is_scaled_by_the_components_known_on_both(bundle: Bundle) -> None:
    """Base takes four times as long here as there, so the others are taken to do so."""
    device = Learned()
    device.note("here.base", 0.4, NOW)
    announced = {name: hosted(0.1) for name in NAMES}
    facts, sources = facts_of(bundle, known_of(announced, device))
    units = {spec.name: cost_of(spec).units for spec in bundle.manifest.components}
    assert facts["base"].here_s == pytest.approx(0.4 * units["base"])
    assert facts["sr32"].here_s == pytest.approx(4 * 0.1 * units["sr32"])
    assert (sources.here["base"], sources.here["sr32"]) == ("measured", "scaled")
    assert sources.there["sr32"] == "announced"


def test_own_requests_say_more_than_an_announcement_for_a_minute(bundle: Bundle) -> None:
    """Then the announcement counts; without one, what was measured."""
    announced = {name: hosted(0.1) for name in NAMES}
    units = cost_of(bundle.manifest.components[1]).units
    for age_s, step_s, source in ((10.0, 0.3, "measured"), (100.0, 0.1, "announced")):
        link = Learned()
        link.note("there.base", 0.3, NOW - age_s)
        facts, sources = facts_of(bundle, known_of(announced, link=link))
        assert facts["base"].there_s == pytest.approx(step_s * units)
        assert sources.there["base"] == source
    silent = known_of(dict.fromkeys(NAMES, hosted()), link=link)
    assert facts_of(bundle, silent)[1].there["base"] == "measured"


def test_what_cascade_tune_measured_counts_until_it_has_run_here(bundle: Bundle) -> None:
    """Runs by role; and its time to open."""
    cost = cost_of(bundle.manifest.components[1])
    runs = dict.fromkeys(cost.runs, 0.05)
    plain = known_of(dict.fromkeys(NAMES, hosted()))
    device = replace(plain.device, tuned_s={"base": runs}, tuned_load_s={"base": 0.75})
    facts, sources = facts_of(bundle, replace(plain, device=device))
    assert facts["base"].here_s == pytest.approx(0.05 * sum(cost.runs.values()))
    assert (sources.here["base"], facts["base"].load_s) == ("tuned", 0.75)
    opened = replace(device, loaded=frozenset({"base"}))
    assert facts_of(bundle, replace(plain, device=opened))[0]["base"].load_s == 0.0


def test_who_waits_at_the_server_is_waited_for(bundle: Bundle) -> None:
    """Each with the default work of two units."""
    facts, _ = facts_of(
        bundle, known_of({**dict.fromkeys(NAMES, hosted(0.1)), "sr16": hosted(0.1, 3)})
    )
    assert facts["sr16"].queue_s == pytest.approx(3 * 2 * 0.1)
    assert facts["sr32"].queue_s == 0.0


def test_a_component_runs_only_where_it_can(bundle: Bundle) -> None:
    """Without files here, not hosted there, or there in a precision that was not asked for."""
    known = known_of({"base": hosted(), "sr16": hosted(), "sr32": hosted(precision=Precision.INT8)})
    device = replace(
        known.device, precisions={"text_encoder": Precision.FP32, "base": Precision.FP32}
    )
    asked = {"sr32": Precision.FP32}
    facts, _ = facts_of(bundle, replace(known, device=device, asked=asked))
    sides = {name: (f.here_s is not None, f.there_s is not None) for name, f in facts.items()}
    assert sides == {
        "text_encoder": (True, False), "base": (True, True), "sr16": (False, True),
        "sr32": (False, False),
    }  # fmt: skip


def test_precisions_that_differ_are_left_where_the_default_cut_has_them(bundle: Bundle) -> None:
    """The picture is that of the default cut, whatever is chosen for the others."""
    there = {name: hosted(precision=Precision.INT8) for name in NAMES}
    facts, _ = facts_of(bundle, known_of({**there, "base": hosted()}))
    sides = {name: (f.here_s is not None, f.there_s is not None) for name, f in facts.items()}
    assert sides == {
        "text_encoder": (True, False), "base": (True, True), "sr16": (False, True),
        "sr32": (False, True),
    }  # fmt: skip


def test_a_longer_prompt_has_a_larger_context(bundle: Bundle) -> None:
    """Up to the longest that there is."""
    known = known_of(dict.fromkeys(NAMES, hosted()))
    short, long, longest = (
        facts_of(bundle, known, "a" * n)[0]["text_encoder"].up_bytes for n in (4, 40, 900)
    )
    assert short < long < longest
    assert longest == 200 + cost_of(bundle.manifest.components[0]).result_bytes


def test_pictures_are_as_large_as_they_were(bundle: Bundle) -> None:
    """On the other way if not on this one; and those that were never sent, as the others."""
    link = Learned()
    link.note("down.sr16", 0.5, NOW)
    facts, _ = facts_of(bundle, known_of(dict.fromkeys(NAMES, hosted()), link=link))
    raw = {spec.name: cost_of(spec).result_bytes for spec in bundle.manifest.components}
    assert facts["sr16"].down_bytes == facts["sr16"].up_bytes == 200 + raw["sr16"] // 2
    assert facts["sr32"].down_bytes == 200 + raw["sr32"] // 2


def test_a_server_on_this_machine_is_near() -> None:
    """A guess of its own, until it is measured."""
    known = known_of({})
    local = replace(known, server=replace(known.server, is_local=True))
    assert link_facts(local)[0].down_bytes_s == LOCAL_BYTES_S
