"""`GetServerInfo`: version, bundle, components, limits and present load; the handshake.

Everything a server tells of itself, as one value.
"""

from dataclasses import dataclass, field
from typing import Any

from cascade.codecs.image import FORMATS, ImageFormat
from cascade.errors import InvalidRequest
from cascade.precision import Precision
from protos.cascade.v1 import cascade_pb2 as pb
from wire.limits import MAX_PADDING_BYTES
from wire.parsing import parse_answer, parse_request, serialise
from wire.payloads import FORMAT_NAMES, FORMAT_NUMBERS, PRECISION_NUMBERS, PRECISIONS
from wire.service import WIRE_VERSION


@dataclass(frozen=True, kw_only=True, slots=True)
class RunTime:
    """One run of an engine with so many rows in it."""

    role: str
    """Of the component's graphs, the one that the engine runs."""
    rows: int
    """Samples along the batch axis."""
    milliseconds: float
    """Mean of the last runs with so many rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComponentInfo:
    """One component that a server hosts, and its present load."""

    name: str
    position: int = 0
    family: str = ""
    output_width: int = 0
    """Of its images, in pixels; 0 for a component that makes none."""
    output_height: int = 0
    """Of its images, in pixels."""
    milliseconds_per_step: float = 0.0
    """Median of the last steps; 0 before the first."""
    queued: int = 0
    """Requests that wait for this component now."""
    max_batch_rows: int = 0
    """Rows that may share one run of its engine (dynamic batching); 1 where it does not pay."""
    default_steps: int = 0
    engine: str = ""
    """The inference runtime by name."""
    precision: Precision | None = None
    """What it computes in; None where that is unset or unknown here."""
    device: str = ""
    """Where: `CPU`, or the card's name."""
    tuned: bool = False
    """Whether its engine was asked for by name or measured there; otherwise `auto` guessed."""
    run_times: tuple[RunTime, ...] = ()
    """What runs take by the rows in them, as far as measured; by role, then by rows."""
    host_milliseconds_per_step: float = 0.0
    """Beside the runs of its engines, mean of the last pictures; 0 before the first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The limits of a server; 0 where an older server does not say."""

    max_message_bytes: int = 0
    max_prompt_characters: int = 0
    max_steps: int = 0
    max_queued_per_stage: int = 0
    context_store_bytes: int = 0
    context_lifetime_s: float = 0.0
    """Seconds that a context is kept unused."""
    result_store_bytes: int = 0
    result_lifetime_s: float = 0.0
    """Seconds that the result of a finished request is kept."""
    max_in_flight_bytes: int = 0
    """Bytes that all requests in progress may hold together."""
    max_in_flight_per_identity: int = 0
    max_linger_s: float = 0.0
    """Longest `linger_s` of a request that is honoured."""
    max_in_flight: int = 0
    """Requests of all callers in progress at once."""
    max_joined_bytes: int = 0
    """Largest message in fragments, either way; 0 where the server knows no fragments."""
    max_resample: int = 0
    """Largest `resample` of an edit; 0 where the server knows no edits, sizes or kept starts."""
    max_vectors: int = 0
    """Of a request; 0 where the server knows none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerInfo:
    """What a server tells of itself: `GetServerInfoResponse`."""

    wire_version: int = WIRE_VERSION
    software_version: str
    """For people."""
    bundle_id: str
    """The id that clients before `bundle_ids` compare."""
    bundle_ids: tuple[str, ...] = ()
    """Every id that names its bundle, the present one first; empty of an older server."""
    bundle_name: str
    components: tuple[ComponentInfo, ...] = ()
    limits: Limits = Limits()
    image_formats: tuple[ImageFormat, ...] = FORMATS
    """Of those that this side knows, in the order of `FORMATS`."""
    padding: bytes = field(default=b"", repr=False)
    """Random bytes, as many as were asked for."""
    cores: int = 0
    """That the server may keep busy; 0 of an older server."""
    resident_bytes: int = 0
    """Of its process, in steps of 16 MiB; 0 of an older server."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InfoCall:
    """`GetServerInfo`: mostly empty; filled up by a client that measures its link."""

    padding: bytes = field(default=b"", repr=False)
    """Ignored: what the way up is timed with, at most `MAX_PADDING_BYTES`."""
    reply_padding_bytes: int = 0
    """Of the answer: what the way down is timed with, at most `MAX_PADDING_BYTES`."""

    def __post_init__(self) -> None:
        """Check both bounds."""
        sizes = {"padding": len(self.padding), "reply_padding_bytes": self.reply_padding_bytes}
        for name, size in sizes.items():
            if not 0 <= size <= MAX_PADDING_BYTES:
                raise InvalidRequest(
                    f"{name}: expected 0 to {MAX_PADDING_BYTES} bytes, got {size}", field=name
                )


def encode_info_request(call: InfoCall | None = None) -> bytes:
    """The message of `GetServerInfo`; an empty one when None."""
    if call is None:
        return b""
    return serialise(
        pb.GetServerInfoRequest(padding=call.padding, reply_padding_bytes=call.reply_padding_bytes)
    )


def decode_info_request(data: bytes) -> InfoCall:
    """The message of `GetServerInfo`.

    Raises:
        InvalidRequest: the bytes are not that message, or it asks for too much padding.
    """
    message = parse_request(pb.GetServerInfoRequest, data)
    return InfoCall(padding=message.padding, reply_padding_bytes=message.reply_padding_bytes)


def encode_info(info: ServerInfo) -> bytes:
    """The answer of `GetServerInfo`."""
    return serialise(
        pb.GetServerInfoResponse(
            wire_version=info.wire_version,
            software_version=info.software_version,
            bundle_id=info.bundle_id,
            bundle_ids=info.bundle_ids,
            bundle_name=info.bundle_name,
            components=[component_message(component) for component in info.components],
            limits=limits_message(info.limits),
            image_formats=[FORMAT_NUMBERS[name] for name in info.image_formats],
            padding=info.padding,
            cores=info.cores,
            resident_bytes=info.resident_bytes,
        )
    )


def decode_info(data: bytes) -> ServerInfo:
    """The answer of `GetServerInfo`; formats and precisions that are unknown here are left out.

    Raises:
        TransportError: the bytes are not that message.
    """
    message = parse_answer(pb.GetServerInfoResponse, data, "GetServerInfo")
    known = [FORMAT_NAMES[n] for n in message.image_formats if n in FORMAT_NAMES]
    return ServerInfo(
        wire_version=message.wire_version,
        software_version=message.software_version,
        bundle_id=message.bundle_id,
        bundle_ids=tuple(message.bundle_ids),
        bundle_name=message.bundle_name,
        components=tuple(read_component(component) for component in message.components),
        limits=read_limits(message.limits),
        image_formats=tuple(name for name in FORMATS if name in known),
        padding=message.padding,
        cores=message.cores,
        resident_bytes=message.resident_bytes,
    )


def component_message(info: ComponentInfo) -> Any:
    """A ComponentInfo message."""
    return pb.ComponentInfo(
        name=info.name,
        position=info.position,
        family=info.family,
        output_resolution=info.output_width,
        output_height=info.output_height,
        milliseconds_per_step=info.milliseconds_per_step,
        queued=info.queued,
        default_steps=info.default_steps,
        precision=None if info.precision is None else PRECISION_NUMBERS[info.precision],
        engine=info.engine,
        max_batch_rows=info.max_batch_rows,
        device=info.device,
        tuned=info.tuned,
        run_times=[
            pb.RunTime(role=run.role, rows=run.rows, milliseconds=run.milliseconds)
            for run in info.run_times
        ],
        host_milliseconds_per_step=info.host_milliseconds_per_step,
    )


def read_component(message: Any) -> ComponentInfo:
    """A component as it came."""
    return ComponentInfo(
        name=message.name,
        position=message.position,
        family=message.family,
        output_width=message.output_resolution,
        # Images of servers before the field were square.
        output_height=message.output_height or message.output_resolution,
        milliseconds_per_step=message.milliseconds_per_step,
        queued=message.queued,
        max_batch_rows=message.max_batch_rows,
        default_steps=message.default_steps,
        engine=message.engine,
        precision=PRECISIONS.get(message.precision),
        device=message.device,
        tuned=message.tuned,
        run_times=tuple(
            RunTime(role=run.role, rows=run.rows, milliseconds=run.milliseconds)
            for run in message.run_times
        ),
        host_milliseconds_per_step=message.host_milliseconds_per_step,
    )


def limits_message(limits: Limits) -> Any:
    """A Limits message."""
    return pb.Limits(
        max_message_bytes=limits.max_message_bytes,
        max_prompt_characters=limits.max_prompt_characters,
        max_steps=limits.max_steps,
        max_queued_per_stage=limits.max_queued_per_stage,
        context_store_bytes=limits.context_store_bytes,
        context_lifetime_seconds=limits.context_lifetime_s,
        result_store_bytes=limits.result_store_bytes,
        result_lifetime_seconds=limits.result_lifetime_s,
        max_in_flight_bytes=limits.max_in_flight_bytes,
        max_in_flight_per_identity=limits.max_in_flight_per_identity,
        max_linger_seconds=limits.max_linger_s,
        max_in_flight=limits.max_in_flight,
        max_joined_bytes=limits.max_joined_bytes,
        max_resample=limits.max_resample,
        max_vectors=limits.max_vectors,
    )


def read_limits(message: Any) -> Limits:
    """The limits as they came."""
    return Limits(
        max_message_bytes=message.max_message_bytes,
        max_prompt_characters=message.max_prompt_characters,
        max_steps=message.max_steps,
        max_queued_per_stage=message.max_queued_per_stage,
        context_store_bytes=message.context_store_bytes,
        context_lifetime_s=message.context_lifetime_seconds,
        result_store_bytes=message.result_store_bytes,
        result_lifetime_s=message.result_lifetime_seconds,
        max_in_flight_bytes=message.max_in_flight_bytes,
        max_in_flight_per_identity=message.max_in_flight_per_identity,
        max_linger_s=message.max_linger_seconds,
        max_in_flight=message.max_in_flight,
        max_joined_bytes=message.max_joined_bytes,
        max_resample=message.max_resample,
        max_vectors=message.max_vectors,
    )
