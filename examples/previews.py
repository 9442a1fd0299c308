"""Progress and previews while a picture is made.

python examples/previews.py "a cactus, twemoji style" steps

Every preview and every finished picture becomes a file of that folder.
"""

import sys
from pathlib import Path

from PIL import Image

from runtime_client import Client, GenerateRequest, Preview, Progress, StageFinished


def main(prompt: str, folder: str) -> None:
    """Follow the events of one request; leaving the loop early would cancel it."""
    Path(folder).mkdir(exist_ok=True)
    request = GenerateRequest(prompt=prompt, seed=1, previews=3)
    with Client("bundles/emoji-1", cut=2) as client:
        for event in client.events(request):
            if isinstance(event, Progress):
                print(f"{event.stage}: {event.done} of {event.total} {event.unit}s")
            elif isinstance(event, Preview):
                Image.fromarray(event.image).save(f"{folder}/{event.stage}-{event.done}.png")
            elif isinstance(event, StageFinished) and event.handoff.image is not None:
                Image.fromarray(event.handoff.image).save(f"{folder}/{event.stage}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
