"""The folder of `--preview`: every stage's picture, and what was seen on the way.

Removes what an earlier run of ours left there, and nothing else. A preview that cannot be written
costs the previews, never the picture. Knows events and files.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from cascade import __version__
from cascade.codecs.image import encode_image
from cascade.errors import InvalidRequest
from cascade.events import Event, Preview, StageFinished
from cascade.types import ImageU8
from runtime_client.cli.picture_file import prepare_folder, write_whole
from runtime_client.cli.picture_metadata import SOFTWARE
from runtime_client.config import LOSSY_FORMATS

MARK = {"software": f"{SOFTWARE} {__version__}"}
"""Text in every preview, by which a later run knows it for one of ours."""
HEAD_BYTES = 256
"""In which the mark stands: right after the header."""


class PreviewFolder:
    """Where the previews of one run go."""

    def __init__(self, folder: Path, stages: Iterable[str], say: Callable[[str], None]) -> None:
        """Make the folder, and remove the previews of earlier runs.

        Args:
            folder: made if it is missing.
            stages: names that previews may begin with.
            say: is told, once, when no more can be written.

        Raises:
            InvalidRequest: the folder cannot be made or written to.
        """
        prepare_folder(folder)
        self._folder = folder
        self._say = say
        self._full = False
        names = "|".join(re.escape(stage) for stage in stages)
        ours = re.compile(rf"(?:{names})(?:-step-\d{{4,}})?\.png")
        for path in folder.iterdir():
            if ours.fullmatch(path.name) and is_marked(path):
                path.unlink(missing_ok=True)

    def take(self, event: Event) -> None:
        """Write the picture of a preview or a finished stage as it comes."""
        image: ImageU8 | None = None
        lossy = ""
        if isinstance(event, Preview):
            name, image = f"{event.stage}-step-{event.done:04d}.png", event.image
            lossy = event.format
        elif isinstance(event, StageFinished):
            name, image = f"{event.stage}.png", event.handoff.image
            lossy = event.format if event.format in LOSSY_FORMATS else ""
        if image is None or self._full:
            return
        try:
            mark = {**MARK, "sent_as": lossy} if lossy else MARK
            write_whole(self._folder / name, encode_image(image, "png", mark))
        except InvalidRequest as exc:
            # The first failure ends them all: a disk does not empty, and one line is enough.
            self._full = True
            self._say(f"no more previews: {str(exc).removeprefix('output: ')}")


def is_marked(path: Path) -> bool:
    """Whether a plain file begins like a preview of ours."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return f"software\0\0\0\0\0{SOFTWARE}".encode() in file.read(HEAD_BYTES)
