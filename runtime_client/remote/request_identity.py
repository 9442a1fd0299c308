"""How a run is known to the server, and what becomes of it when the connection is lost.

The request id is an idempotency key: a call that is repeated with it joins the work it began.
"""

from dataclasses import dataclass, field

from runtime_client.config import PictureFormat


@dataclass(frozen=True, kw_only=True, slots=True)
class DisconnectPolicy:
    """What the server does with the work while no call listens to it."""

    detach: bool = False
    """It goes on to its end."""
    linger_s: float = 0.0
    """It goes on for so many seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestIdentity:
    """The name of a run, and its policy."""

    request_id: str = ""
    """Empty makes one per run."""
    on_disconnect: DisconnectPolicy = field(default_factory=DisconnectPolicy)
    goes_on: bool = False
    """Whether another hop begins with what this one makes: then no pixel may be lost on the way."""
    is_placed: bool = False
    """Whether its components are placed on that server by name, and not by a cut; for errors."""
    picture_format: PictureFormat | None = None
    """How its results travel, where that was chosen for this run; None as all of the connection."""
