"""Several prompts at once through one client.

cascade serve --listen 127.0.0.1:7860
python examples/batch_of_prompts.py 127.0.0.1:7860 pictures "a red apple" "a robot" "a cactus"

The server merges steps of several requests where batching pays on its machine.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from runtime_client import Client, Result


def main(server: str, folder: str, *prompts: str) -> None:
    """Draw every prompt with its own seed; the client keeps within the limits of the server."""
    Path(folder).mkdir(exist_ok=True)
    with Client("bundles/emoji-1", server=server, cut=2) as client, ThreadPoolExecutor(4) as pool:

        def draw(numbered: tuple[int, str]) -> Result:
            number, prompt = numbered
            return client.generate(prompt, seed=number)

        for number, result in enumerate(pool.map(draw, enumerate(prompts))):
            Image.fromarray(result.image).save(f"{folder}/{number}.png")
            print(f"{number}.png: {prompts[number]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
