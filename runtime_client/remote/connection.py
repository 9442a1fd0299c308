"""What all requests to one server share: the link, the contexts it holds, the cancels still due.

One per client, used from any thread. Assembles and closes; what each part does, the parts know.
"""

from concurrent.futures import ThreadPoolExecutor

from cascade.system.owning_process import OwningProcess
from runtime_client.config import PictureFormat
from runtime_client.remote.context_uploads import ContextUploads
from runtime_client.remote.link_speed import LinkSpeed
from runtime_client.remote.pending_cancels import PendingCancels
from runtime_client.remote.server_link import ServerLink

UPLOAD_THREADS = 4
"""Contexts that may be on their way at once."""


class Connection:
    """The parts, for the lifetime of a client."""

    def __init__(self, link: ServerLink, picture_format: PictureFormat = "auto") -> None:
        """Nothing is sent yet.

        Args:
            link: to the server; closed with this.
            picture_format: as in `ClientConfig`.
        """
        self.link = link
        self.picture_format = picture_format
        self.speed = LinkSpeed()
        """Of the line, as far as pictures have come down it."""
        self._uploader = ThreadPoolExecutor(UPLOAD_THREADS, "cascade-upload")
        self.contexts = ContextUploads(self._uploader, link)
        self.pending_cancels = PendingCancels(link)

    @property
    def owner(self) -> OwningProcess:
        """The process that made it: the only one that may send or cancel."""
        return self.link.owner

    def close(self) -> None:
        """Send the cancels that are due, then end every call."""
        self.link.stop()
        self.pending_cancels.close()
        self.link.close()
        self._uploader.shutdown(wait=True, cancel_futures=True)
