"""Leave a request to the server and fetch the picture later.

cascade serve --listen 127.0.0.1:7860
python examples/detach_and_fetch.py 127.0.0.1:7860 "a lemon, noto style" lemon.png

The second client may be another process within the lifetime of results.
"""

import sys

from PIL import Image

from runtime_client import Client, GenerateRequest, UnknownRequest


def main(server: str, prompt: str, file: str) -> None:
    """Submit, fetch, delete what the server keeps, and show that it is gone."""
    with Client("bundles/emoji-1", server=server, cut=2) as client:
        request_id = client.submit(GenerateRequest(prompt=prompt, seed=5))
    print("submitted")
    with Client("bundles/emoji-1", server=server) as later:
        Image.fromarray(later.fetch(request_id).image).save(file)
        print("fetched", file)
        print("deleted:", later.cancel(request_id))
        try:
            later.fetch(request_id)
        except UnknownRequest as error:
            print("gone:", error.reason)


if __name__ == "__main__":
    main(*sys.argv[1:])
