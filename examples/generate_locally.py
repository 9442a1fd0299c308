"""A picture with every component in this process.

python examples/generate_locally.py "a red apple, noto style" apple.png

It draws twice: the same seed gives the same picture.
"""

import sys

from PIL import Image

from runtime_client import Client


def main(prompt: str, file: str) -> None:
    """Draw, save, draw again and compare."""
    with Client("bundles/emoji-1", cut=4) as client:
        result = client.generate(prompt, seed=7)
        again = client.generate(prompt, seed=7)
    Image.fromarray(result.image).save(file)
    for stage, picture in result.images.items():
        height, width = picture.shape[:2]
        print(f"{stage}: {width}x{height} in {result.seconds[stage]:.2f} s")
    print("same seed, same pixels:", (result.image == again.image).all())


if __name__ == "__main__":
    main(*sys.argv[1:])
