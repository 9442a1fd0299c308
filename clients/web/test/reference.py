"""Answers of the Python client for the tests of the JavaScript one, as JSON lines.

`python test/reference.py BUNDLE CUT SEED PROMPT [ADDRESS]`: every stage's picture, raw, in base64.
"""

import base64
import json
import sys

from runtime_client import Client


def main(bundle: str, cut: str, seed: str, prompt: str, address: str = "") -> None:
    """Draw once and print."""
    with Client(bundle, cut=int(cut), server=address or None) as client:
        result = client.generate(prompt, seed=int(seed))
    for stage, picture in result.images.items():
        height, width = picture.shape[:2]
        data = base64.b64encode(picture.tobytes()).decode()
        print(json.dumps({"stage": stage, "width": width, "height": height, "data": data}))


if __name__ == "__main__":
    main(*sys.argv[1:])
