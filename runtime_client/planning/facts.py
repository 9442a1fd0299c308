"""The facts of one request, put together from what was measured; what fills a gap is said.

Functions of values. Knows components, what was learned, what this machine and a server say; asks
neither of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from cascade.boundary import Context, Image, Prompt, Tensor, value_of
from cascade.cost import Cost
from cascade.families import cost_of
from cascade.family import ComponentSpec
from cascade.precision import Precision
from cascade.request import GenerateRequest
from runtime_client.config import DEFAULT_CUT
from runtime_client.planning.cost_model import ComponentFacts, EncodingFacts, LinkFacts
from runtime_client.planning.learned import Learned

FRESH_S = 60.0
"""So long a time of one's own request says more of a server than its announcement."""
SLOWER_HERE = 2.0
"""How much slower this machine is taken to be than a server that is the only one measured."""
GUESSED_S_PER_PIXEL = 2e-7
GUESSED_S = 0.01
"""Of a unit, where nothing at all was measured: of each pixel of its share, and besides."""
GUESSED_LOAD_S, GUESSED_LOAD_BYTES_S = 0.2, 2e8
"""To open a component: its engine, and bytes of its files per second."""
GUESSED_RTT_S = 0.03
GUESSED_UP_BYTES_S, GUESSED_DOWN_BYTES_S = 10e6 / 8, 50e6 / 8
"""Of a network of which nothing was measured: a home's access, 10 Mbit/s up and 50 down."""
LOCAL_RTT_S, LOCAL_BYTES_S = 0.001, 1e9
"""Of a server on this machine."""
RAW_PACK_S, LOSSLESS_PACK_S = 5e-10, 1.5e-8
"""Seconds to encode and decode a byte of a picture."""
LOSSLESS_SHARE = 0.45
"""Bytes of an encoded picture, of its raw bytes, where none was seen."""
LOSSY_SHARES = {"avif": 0.02, "webp90": 0.015, "jpeg": 0.03}
LOSSY_PACK_S = {"avif": 6e-8, "webp90": 1.1e-8, "jpeg": 4e-9}
"""The same in formats with loss, as `benchmarks.picture_formats` measures large pictures, rounded
up."""
MESSAGE_BYTES = 200
"""Of a call or a result beside what it carries."""
CHARACTERS_OF_TOKEN = 4
CONTEXT_BYTES = 2
"""Of a number of a context on the wire, float16."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostedFacts:
    """What a server says of a component that it hosts."""

    precision: Precision | None
    step_s: float
    """Median of its last units; 0 where it does not say."""
    queued: int
    units: int
    """Of a request with the bundle's defaults."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerView:
    """A server as it was last heard of."""

    hosted: Mapping[str, HostedFacts]
    is_local: bool = False
    """Whether it is on this machine, so that pictures come as raw pixels."""
    formats: tuple[str, ...] = ()
    """In which it can send pictures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceView:
    """This machine, for one bundle."""

    precisions: Mapping[str, Precision]
    """Of the components that can run here, by name."""
    loaded: frozenset[str] = frozenset()
    tuned_s: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Seconds of one run of a graph by role, of each component that `cascade tune` measured."""
    tuned_load_s: Mapping[str, float] = field(default_factory=dict)
    file_bytes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """Where facts come from, by component: `measured`, `tuned`, `announced`, `scaled`, `guess`."""

    here: Mapping[str, str]
    there: Mapping[str, str]
    link: Mapping[str, str]
    """Of `rtt`, `up` and `down`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownFacts:
    """All that is known when a request is planned."""

    device: DeviceView
    server: ServerView
    of_device: Learned
    of_link: Learned
    now_s: float
    asked: Mapping[str, Precision] = field(default_factory=dict)
    """Precisions that were asked for by name: a server that differs is none for the component."""
    is_placed: bool = False
    """Whether the placement is given: then both sides count as able to run every component."""


def nothing_known() -> KnownFacts:
    """What is known where nothing was measured and no server answers: guesses fill every gap."""
    return KnownFacts(
        device=DeviceView(precisions={}),
        server=ServerView(hosted={}),
        of_device=Learned(),
        of_link=Learned(),
        now_s=0.0,
    )


def link_facts(known: KnownFacts) -> tuple[LinkFacts, dict[str, str]]:
    """The way to the server, and where each number comes from."""
    link, sources = known.of_link, {}
    guesses = {
        "rtt": LOCAL_RTT_S if known.server.is_local else GUESSED_RTT_S,
        "up": LOCAL_BYTES_S if known.server.is_local else GUESSED_UP_BYTES_S,
        "down": LOCAL_BYTES_S if known.server.is_local else GUESSED_DOWN_BYTES_S,
    }
    found = {}
    for name, guess in guesses.items():
        value = link.value(name)
        sources[name] = "guess" if value is None else "measured"
        found[name] = guess if value is None else value
    facts = LinkFacts(rtt_s=found["rtt"], up_bytes_s=found["up"], down_bytes_s=found["down"])
    return facts, sources


def component_facts(
    components: Sequence[ComponentSpec], first: int, request: GenerateRequest, known: KnownFacts
) -> tuple[list[ComponentFacts], Sources]:
    """What a request takes of each of its components on either side.

    Args:
        components: of the request, in order.
        first: position of the first of them in the bundle.
        request: with its plans.
        known: what was measured.

    Returns:
        The facts, with None for a side that cannot run a component or would make another picture;
        and where they come from.
    """
    costs = [cost_of(spec, request) for spec in components]
    here, here_from = here_seconds(components, costs, known)
    there, there_from = there_seconds(components, costs, known)
    fill_gaps((here, here_from), (there, there_from), components, costs)
    facts, shares = [], picture_shares(components, known)
    for at, (spec, cost) in enumerate(zip(components, costs, strict=True)):
        may_here, may_there = sides_of(spec.name, first + at, known)
        may_here, may_there = may_here or known.is_placed, may_there or known.is_placed
        facts.append(
            ComponentFacts(
                name=spec.name,
                here_s=here[spec.name] if may_here else None,
                there_s=there[spec.name] if may_there else None,
                load_s=load_seconds(spec, known),
                queue_s=queue_seconds(spec.name, there[spec.name] / cost.units, known),
                starts_bytes=start_bytes(request),
                needs_context=value_of(Context, spec.starts_from) is not None,
                needs_picture=any(isinstance(v, Image | Tensor) for v in spec.starts_from),
                makes_context=isinstance(spec.makes, Context),
                takes_words=value_of(Prompt, spec.starts_from) is not None,
                up_bytes=result_bytes(spec, cost, request, shares["up", spec.name]),
                down_bytes=result_bytes(spec, cost, request, shares["down", spec.name]),
                pack_s=pack_seconds(spec, cost, known),
                lossy=lossy_encodings(spec, cost, known),
            )
        )
    link_from = link_facts(known)[1]
    return facts, Sources(here=here_from, there=there_from, link=link_from)


def sides_of(name: str, position: int, known: KnownFacts) -> tuple[bool, bool]:
    """Whether a component may run here, and there.

    Where both could and would compute it in different precisions, the default cut decides: the
    picture is then the one of that cut, wherever the others run.
    """
    own = known.device.precisions.get(name)
    hosted = known.server.hosted.get(name)
    asked = known.asked.get(name)
    fits = hosted is not None and (asked is None or hosted.precision == asked)
    if own is not None and hosted is not None and fits and own != hosted.precision:
        return position < DEFAULT_CUT, position >= DEFAULT_CUT
    return own is not None, fits


def here_seconds(
    components: Sequence[ComponentSpec], costs: Sequence[Cost], known: KnownFacts
) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of each component here, as far as they were measured, and how."""
    found, sources = {}, {}
    for spec, cost in zip(components, costs, strict=True):
        unit_s = known.of_device.value(f"here.{spec.name}")
        tuned = known.device.tuned_s.get(spec.name, {})
        if unit_s is not None:
            found[spec.name], sources[spec.name] = unit_s * cost.units, "measured"
        elif tuned and set(cost.runs) <= set(tuned):
            found[spec.name] = sum(n * tuned[role] for role, n in cost.runs.items())
            sources[spec.name] = "tuned"
    return found, sources


def there_seconds(
    components: Sequence[ComponentSpec], costs: Sequence[Cost], known: KnownFacts
) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of each component on the server, as far as they are known, and how."""
    found, sources = {}, {}
    for spec, cost in zip(components, costs, strict=True):
        key, hosted = f"there.{spec.name}", known.server.hosted.get(spec.name)
        unit_s = known.of_link.value(key)
        announced = 0.0 if hosted is None else hosted.step_s
        if unit_s is not None and known.of_link.age_s(key, known.now_s) <= FRESH_S:
            found[spec.name], sources[spec.name] = unit_s * cost.units, "measured"
        elif announced > 0:
            found[spec.name], sources[spec.name] = announced * cost.units, "announced"
        elif unit_s is not None:
            found[spec.name], sources[spec.name] = unit_s * cost.units, "measured"
    return found, sources


Side = tuple[dict[str, float], dict[str, str]]


def fill_gaps(
    here: Side, there: Side, components: Sequence[ComponentSpec], costs: Sequence[Cost]
) -> None:
    """Give every component a time on both sides.

    Known on one side only, it is scaled by how the sides compare at the components known on both,
    or by `SLOWER_HERE`; known on neither, it is guessed from its pixels.
    """
    both = here[0].keys() & there[0].keys()
    ratio = median(here[0][n] / there[0][n] for n in both) if both else SLOWER_HERE
    for spec, cost in zip(components, costs, strict=True):
        name = spec.name
        if name not in here[0] and name not in there[0]:
            there[0][name] = cost.units * GUESSED_S + cost.pixels * GUESSED_S_PER_PIXEL
            there[1][name], here[1][name] = "guess", "guess"
            here[0][name] = ratio * there[0][name]
        elif name not in here[0]:
            here[0][name], here[1][name] = ratio * there[0][name], "scaled"
        elif name not in there[0]:
            there[0][name], there[1][name] = here[0][name] / ratio, "scaled"


def load_seconds(spec: ComponentSpec, known: KnownFacts) -> float:
    """Until a component is open here."""
    if spec.name in known.device.loaded:
        return 0.0
    learned = known.of_device.value(f"load.{spec.name}")
    if learned is not None:
        return learned
    tuned = known.device.tuned_load_s.get(spec.name)
    if tuned is not None:
        return tuned
    return GUESSED_LOAD_S + known.device.file_bytes.get(spec.name, 0) / GUESSED_LOAD_BYTES_S


def queue_seconds(name: str, unit_s: float, known: KnownFacts) -> float:
    """Of the requests that the server said wait for a component: each with the default work."""
    hosted = known.server.hosted.get(name)
    return 0.0 if hosted is None else hosted.queued * hosted.units * unit_s


def start_bytes(request: GenerateRequest) -> int:
    """Of a call that begins with the request itself."""
    picture = 0 if request.picture is None else round(LOSSLESS_SHARE * request.picture.size)
    return MESSAGE_BYTES + len((request.prompt or "").encode()) + picture


def result_bytes(spec: ComponentSpec, cost: Cost, request: GenerateRequest, share: float) -> int:
    """Of a component's result on its way.

    A context has a row for each token of the prompt.

    Args:
        spec: the component.
        cost: of its work.
        request: whose prompt it is.
        share: bytes of an encoded picture, of its raw bytes.
    """
    made = spec.makes
    if isinstance(made, Context):
        tokens = len((request.prompt or "").encode()) / CHARACTERS_OF_TOKEN + 2
        size = min(cost.result_bytes, round(tokens * made.width * CONTEXT_BYTES))
        return MESSAGE_BYTES + size
    if isinstance(made, Tensor):
        return MESSAGE_BYTES + cost.result_bytes
    return MESSAGE_BYTES + round(share * cost.result_bytes)


def picture_shares(
    components: Sequence[ComponentSpec], known: KnownFacts
) -> dict[tuple[str, str], float]:
    """By way and component: bytes of an encoded picture, of its raw bytes.

    As it was on that way; else on the other one, for the pixels are the same; else as those of the
    other components were on average.
    """
    ways = {"up": known.of_device, "down": known.of_link}
    seen = {
        (way, spec.name): share
        for way, learned in ways.items()
        for spec in components
        # The bytes of a latent are what they are: it is packed nowhere.
        if not isinstance(spec.makes, Tensor)
        and (share := learned.value(f"{way}.{spec.name}")) is not None
    }
    usual = median(seen.values()) if seen else LOSSLESS_SHARE
    other = {"up": "down", "down": "up"}
    return {
        (way, spec.name): seen.get((way, spec.name), seen.get((other[way], spec.name), usual))
        for way in ways
        for spec in components
    }


def pack_seconds(spec: ComponentSpec, cost: Cost, known: KnownFacts) -> float:
    """To encode a picture there and to decode it here."""
    if not isinstance(spec.makes, Image):
        return 0.0
    learned = known.of_link.value("pack")
    guess = RAW_PACK_S if known.server.is_local else LOSSLESS_PACK_S
    return cost.result_bytes * (guess if learned is None else learned)


def lossy_encodings(spec: ComponentSpec, cost: Cost, known: KnownFacts) -> dict[str, EncodingFacts]:
    """What a picture takes in each format with loss; nothing for a context."""
    if isinstance(spec.makes, Context):
        return {}
    found = {}
    for name, usual in LOSSY_SHARES.items():
        share = known.of_link.value(f"down.{spec.name}.{name}")
        pack_s = known.of_link.value(f"pack.{name}")
        found[name] = EncodingFacts(
            down_bytes=MESSAGE_BYTES
            + round((usual if share is None else share) * cost.result_bytes),
            pack_s=cost.result_bytes * (LOSSY_PACK_S[name] if pack_s is None else pack_s),
        )
    return found
