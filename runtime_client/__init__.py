"""The edge half: makes pictures with the first components here and the rest on a server.

    from runtime_client import Client

    with Client("bundles/emoji-1", server="host:8500", cut=2) as client:
        result = client.generate("a red apple, noto style", seed=1)

Importing it loads neither gRPC nor ONNX Runtime. It knows nothing of the server's code, of torch or
of how a bundle is made.
"""

from cascade.diffusion.request_options import DiffusionOptions as DiffusionOptions
from cascade.edit import Edit as Edit
from cascade.errors import BundleMismatch as BundleMismatch
from cascade.errors import Cancelled as Cancelled
from cascade.errors import CascadeError as CascadeError
from cascade.errors import DeadlineExceeded as DeadlineExceeded
from cascade.errors import InvalidRequest as InvalidRequest
from cascade.errors import PermissionDenied as PermissionDenied
from cascade.errors import PlacementError as PlacementError
from cascade.errors import QuotaExceeded as QuotaExceeded
from cascade.errors import RequestIdTaken as RequestIdTaken
from cascade.errors import ServerBusy as ServerBusy
from cascade.errors import TransportError as TransportError
from cascade.errors import Unauthenticated as Unauthenticated
from cascade.errors import UnknownRequest as UnknownRequest
from cascade.errors import VersionMismatch as VersionMismatch
from cascade.events import Accepted as Accepted
from cascade.events import Event as Event
from cascade.events import FellBack as FellBack
from cascade.events import Preview as Preview
from cascade.events import Progress as Progress
from cascade.events import Resumed as Resumed
from cascade.events import StageFinished as StageFinished
from cascade.events import Transferred as Transferred
from cascade.request import GenerateRequest as GenerateRequest
from cascade.request import KeptPicture as KeptPicture
from runtime_client.client import Client as Client
from runtime_client.config import ClientConfig as ClientConfig
from runtime_client.result import Result as Result
from runtime_client.wish import Wish as Wish

__all__ = [
    "Accepted",
    "BundleMismatch",
    "Cancelled",
    "CascadeError",
    "Client",
    "ClientConfig",
    "DeadlineExceeded",
    "DiffusionOptions",
    "Edit",
    "Event",
    "FellBack",
    "GenerateRequest",
    "InvalidRequest",
    "KeptPicture",
    "PermissionDenied",
    "PlacementError",
    "Preview",
    "Progress",
    "QuotaExceeded",
    "RequestIdTaken",
    "Result",
    "Resumed",
    "ServerBusy",
    "StageFinished",
    "Transferred",
    "TransportError",
    "Unauthenticated",
    "UnknownRequest",
    "VersionMismatch",
    "Wish",
]
