"""How long a request takes, and what it moves, if its components run here and there.

Arithmetic on facts: no clock, no connection, no bundle. It follows what client and server do: a
context goes up while later components run here; a server sends each result while it computes the
next one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, product

MOST_FREE = 8
"""Components of which every mixture of places is looked at; of more than these, only cuts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkFacts:
    """The way to the server."""

    rtt_s: float
    up_bytes_s: float
    """Bytes per second to the server."""
    down_bytes_s: float
    """And from it."""


LOSSLESS = ""
"""The encoding of pictures that keeps every pixel, whichever format that is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodingFacts:
    """What a picture takes on the way down in one format."""

    down_bytes: int
    pack_s: float
    """Seconds to encode it there and to decode it here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComponentFacts:
    """What one request takes of one component, on either side."""

    name: str
    here_s: float | None
    """Seconds of its work here; None where it cannot run here."""
    there_s: float | None
    """Seconds of its work on the server; None where that does not host it."""
    load_s: float = 0.0
    """Before its first run here; 0 once it is open."""
    queue_s: float = 0.0
    """In the server's queue before it."""
    starts_bytes: int = 0
    """Of a request that begins with it: the prompt, or a picture; without a context."""
    needs_context: bool = False
    needs_picture: bool = False
    makes_context: bool = False
    up_bytes: int = 0
    """Of its result on the way up."""
    down_bytes: int = 0
    """Of its result on the way down."""
    pack_s: float = 0.0
    """Seconds to encode its result there and to decode it here."""
    lossy: Mapping[str, EncodingFacts] = field(default_factory=dict)
    """The same of its picture with loss, by format; empty for what is no picture."""
    takes_words: bool = False
    """Whether it starts from the prompt."""


Places = tuple[bool, ...]
"""By component of the request: whether it runs here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedRun:
    """One placement, and what comes of it."""

    places: Places
    seconds: float
    """Until the last picture."""
    here_s: float
    """Of work here."""
    there_s: float
    """Of work on the server."""
    queue_s: float
    """In its queue."""
    bytes_up: int
    bytes_down: int
    format: str = LOSSLESS
    """In which the last hop's pictures come down."""

    @property
    def bytes(self) -> int:
        """Both ways."""
        return self.bytes_up + self.bytes_down

    @property
    def calls(self) -> int:
        """Hops on the server."""
        return sum(not here for here, _ in groupby(self.places))

    @property
    def wait_s(self) -> float:
        """Neither work nor queue: the link, loading and packing."""
        return max(0.0, self.seconds - self.here_s - self.there_s - self.queue_s)


@dataclass(slots=True)
class Clock:
    """A run as it is walked through: the time so far, and what it has moved."""

    now: float = 0.0
    up: int = 0
    down: int = 0
    here_s: float = 0.0
    there_s: float = 0.0
    queue_s: float = 0.0
    context_bytes: int = 0
    context_sent_at: float | None = None
    """When the upload of a context was begun, if it was."""


def predict(
    components: Sequence[ComponentFacts],
    link: LinkFacts,
    places: Places,
    format_: str = LOSSLESS,
) -> PredictedRun:
    """What comes of a placement.

    Args:
        components: of the request, in order.
        link: to the server of those that do not run here.
        places: by component; each one's side must be able to run it.
        format_: of the pictures of the last component's hop; those that another hop begins with
            come without loss.
    """
    # Everything that runs here is opened before anything runs.
    clock = Clock(now=sum(c.load_s for c, here in zip(components, places, strict=True) if here))
    at = 0
    for here, group in groupby(places):
        hop = range(at, at + len(list(group)))
        at = hop.stop
        if here:
            run_here(clock, components, hop)
        else:
            run_there(clock, encoded(components, hop, format_), link, hop)
    return PredictedRun(
        places=places,
        seconds=clock.now,
        here_s=clock.here_s,
        there_s=clock.there_s,
        queue_s=clock.queue_s,
        bytes_up=clock.up,
        bytes_down=clock.down,
        format=format_,
    )


def encoded(
    components: Sequence[ComponentFacts], hop: range, format_: str
) -> Sequence[ComponentFacts]:
    """The same components, with what their pictures take in the format that a hop sends."""
    if format_ == LOSSLESS or hop.stop < len(components):
        return components
    return [
        spec
        if (lossy := spec.lossy.get(format_)) is None
        else replace(spec, down_bytes=lossy.down_bytes, pack_s=lossy.pack_s)
        for spec in components
    ]


def run_here(clock: Clock, components: Sequence[ComponentFacts], hop: range) -> None:
    """Components on this machine, one after the other."""
    for at in hop:
        spec = components[at]
        if clock.context_bytes and clock.context_sent_at is None:
            # Before a component here begins, a later hop sends what is known by then.
            clock.context_sent_at = clock.now
        clock.now += spec.here_s or 0.0
        clock.here_s += spec.here_s or 0.0
        if spec.makes_context:
            clock.context_bytes, clock.context_sent_at = spec.up_bytes, None


def run_there(
    clock: Clock, components: Sequence[ComponentFacts], link: LinkFacts, hop: range
) -> None:
    """Components on the server: the call goes up, results come down as they are made."""
    message = call_bytes(clock, components, hop.start)
    clock.up += message
    if hop.start and clock.context_sent_at is not None:
        # The call names the context, so it waits until the server has it.
        stored = clock.context_sent_at + link.rtt_s + clock.context_bytes / link.up_bytes_s
        clock.now = max(clock.now, stored)
        clock.up += clock.context_bytes
    server = clock.now + message / link.up_bytes_s + link.rtt_s / 2
    line_free = 0.0
    for at in hop:
        spec = components[at]
        server += spec.queue_s + (spec.there_s or 0.0)
        clock.queue_s += spec.queue_s
        clock.there_s += spec.there_s or 0.0
        clock.down += spec.down_bytes
        line_free = max(server + spec.pack_s, line_free) + spec.down_bytes / link.down_bytes_s
        if spec.makes_context:
            clock.context_bytes, clock.context_sent_at = spec.up_bytes, None
    clock.now = line_free + link.rtt_s / 2


def call_bytes(clock: Clock, components: Sequence[ComponentFacts], first: int) -> int:
    """Bytes of the call that begins with a component."""
    spec = components[first]
    if first == 0:
        return spec.starts_bytes
    picture = components[first - 1].up_bytes if spec.needs_picture else 0
    goes_along = spec.needs_context and clock.context_sent_at is None
    return picture + (clock.context_bytes if goes_along else 0)


def placements(components: Sequence[ComponentFacts], *, cuts_only: bool) -> Iterator[Places]:
    """Every placement that both sides can run, those with more components here first.

    Args:
        components: of the request.
        cuts_only: whether what runs here must be the first ones.
    """
    count = len(components)
    mixtures: Iterator[Places] | list[Places]
    if cuts_only or count > MOST_FREE:
        mixtures = [tuple(at < cut for at in range(count)) for cut in range(count, -1, -1)]
    else:
        mixtures = product((True, False), repeat=count)
    for places in mixtures:
        sides = zip(components, places, strict=True)
        if all((c.here_s if here else c.there_s) is not None for c, here in sides):
            yield places
