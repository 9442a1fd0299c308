"""What do the pictures look like: a sheet of 32 prompts with one seed, at 64, 256 and 1024.

    python -m benchmarks.sheet --out docs/pictures

Draws every prompt through the real split. Writes `sheet-64.png`, `sheet-256.png`, `sheet-1024.jpg`
(each picture thinned so that the sheet stays small) and `prompts.txt`.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from runtime_client import Client

COLUMNS = 8
SHOWN = {"base": 64, "sr256": 192, "sr1024": 320}
"""Pixels of one picture in its sheet; larger ones are averaged down."""

PROMPTS = (
    "a red apple, noto style", "a lemon, fluent style", "a strawberry, twemoji style",
    "a hamburger, noto style", "a pizza, fluent style", "a doughnut, twemoji style",
    "a birthday cake, noto style", "a hot beverage, fluent style",
    "a grinning face, noto style", "a smiling face with sunglasses, fluent style",
    "an angry face, twemoji style", "a robot, noto style", "an alien, fluent style",
    "a ghost, twemoji style", "a jack o lantern, noto style", "a clown face, fluent style",
    "a cat face, noto style", "a panda, fluent style", "a frog, twemoji style",
    "a lion, noto style", "a penguin, fluent style", "a tropical fish, twemoji style",
    "a cactus, noto style", "a christmas tree, fluent style",
    "a red heart, twemoji style", "a soccer ball, noto style", "a rocket, fluent style",
    "a house, twemoji style",
    "a green cat, noto style", "a blue apple, fluent style", "a smiling tomato, twemoji style",
    "a robot with a crown, noto style",
)  # fmt: skip
"""28 captions in three styles, then 4 combinations of words that no caption has."""


def tile(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures of one size in rows of `COLUMNS`."""
    rows = [
        np.concatenate(pictures[i : i + COLUMNS], axis=1) for i in range(0, len(pictures), COLUMNS)
    ]
    return np.concatenate(rows, axis=0)


def main() -> None:
    """Draw the sheets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in SHOWN}
    with Client(args.bundle) as client:
        for prompt in PROMPTS:
            for name, image in client.generate(prompt, seed=args.seed).images.items():
                size = (SHOWN[name], SHOWN[name])
                small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
                drawn[name].append(np.asarray(small))
            print(prompt, flush=True)
    for (name, pictures), file in zip(
        drawn.items(), ("sheet-64.png", "sheet-256.png", "sheet-1024.jpg"), strict=True
    ):
        Image.fromarray(tile(pictures)).save(args.out / file, quality=90)
        print(f"{name}: {args.out / file}")
    (args.out / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")


if __name__ == "__main__":
    main()
