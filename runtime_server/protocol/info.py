"""What a client is told about a server at its first call, as values.

Knows what is told; neither how it was measured nor how it is written.
"""

from dataclasses import dataclass

from cascade.events import Backend
from runtime_server.config.config import ServerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class HostedComponent:
    """One component that runs here, and how it is doing."""

    name: str
    position: int
    family: str
    output_resolution: int
    """0 for the text encoder."""
    milliseconds_per_step: float
    queued: int
    max_batch_rows: int
    """Rows that may share one run of its engine; 1 where sharing does not pay."""
    default_steps: int
    computed: Backend
    """What runs it here."""
    device: str
    """Where: `CPU`, or the card's name."""
    tuned: bool
    """Whether its engine was asked for by name or measured here; otherwise `auto` guessed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerInfo:
    """Bundle, components and limits."""

    bundle_id: str
    bundle_name: str
    components: tuple[HostedComponent, ...]
    config: ServerConfig
    max_joined_bytes: int
    """Of a request or an answer in fragments."""
