"""The vocabulary of a split text-to-image cascade: schedules, samplers, stages, bundles.

    from cascade import CascadeError
    from cascade.bundle.bundle import open_bundle
    from cascade.generate import generate

Here is what can be had without numpy, which `cascade --help` and a signal in the first hundred
milliseconds must not wait for: docs/decisions/0026-face-of-the-vocabulary.md.
"""

from cascade.errors import BundleMismatch as BundleMismatch
from cascade.errors import Cancelled as Cancelled
from cascade.errors import CascadeError as CascadeError
from cascade.errors import DeadlineExceeded as DeadlineExceeded
from cascade.errors import EngineError as EngineError
from cascade.errors import ImageCodecError as ImageCodecError
from cascade.errors import InvalidRequest as InvalidRequest
from cascade.errors import ManifestError as ManifestError
from cascade.errors import MessageTooLarge as MessageTooLarge
from cascade.errors import MissingExtra as MissingExtra
from cascade.errors import ParityError as ParityError
from cascade.errors import PermissionDenied as PermissionDenied
from cascade.errors import PlacementError as PlacementError
from cascade.errors import PrecisionMismatch as PrecisionMismatch
from cascade.errors import QuotaExceeded as QuotaExceeded
from cascade.errors import RequestIdTaken as RequestIdTaken
from cascade.errors import ServerBusy as ServerBusy
from cascade.errors import StageError as StageError
from cascade.errors import TensorCodecError as TensorCodecError
from cascade.errors import TransportError as TransportError
from cascade.errors import Unauthenticated as Unauthenticated
from cascade.errors import UnknownContext as UnknownContext
from cascade.errors import UnknownRequest as UnknownRequest
from cascade.errors import UnsupportedModel as UnsupportedModel
from cascade.errors import VersionMismatch as VersionMismatch
from cascade.precision import Precision as Precision

__version__ = "0.1.0"
