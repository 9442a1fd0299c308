"""Are the pictures still the same? Hashes of every stage's picture at every cut and precision.

Run it before and after a change, of two checkouts on one machine; `--against` compares. Uses the
client's face alone, so that it runs on checkouts of different layouts. No warm-up: nothing is
timed.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime_client import Client

PROMPTS = (
    "a red apple, noto style",
    "a blue car, fluent style",
    "a green tree, twemoji style",
    "a yellow star, noto style",
    "a cat face, fluent style",
    "a purple heart, twemoji style",
    "a house with garden, noto style",
    "a rocket, fluent style",
    "fish",
    "a cup of coffee, noto style",
    "an orange umbrella beside a black dog that looks at the moon, twemoji style",
    "picture of a bicycle, drawn in fluent style",
)
CUTS = (0, 1, 2, 3, 4)
PRECISIONS = ("fp32", "int8", "auto")


def hashes(bundle: str, cut: int, precision: str, prompts: Sequence[str]) -> dict[str, str]:
    """sha256 of the shape and the bytes of each picture, by prompt, stage, cut and precision.

    Args:
        bundle: its folder.
        cut: components in this process; a private server runs the others.
        precision: of all components, or `auto`.
        prompts: each with its place in the list as seed.
    """
    found = {}
    with Client(bundle, cut=cut, precision=precision) as client:
        for seed, prompt in enumerate(prompts):
            for stage, image in client.generate(prompt, seed=seed).images.items():
                digest = hashlib.sha256(repr(image.shape).encode("ascii") + image.tobytes())
                found[f"{prompt} | {stage} | cut {cut} | {precision}"] = digest.hexdigest()
    return found


def unequal_between_cuts(found: Mapping[str, str]) -> list[str]:
    """Pictures that are not the same at every cut."""
    across: dict[str, set[str]] = {}
    for key, digest in found.items():
        prompt, stage, _, precision = key.split(" | ")
        across.setdefault(f"{prompt} | {stage} | {precision}", set()).add(digest)
    return [key for key, digests in across.items() if len(digests) > 1]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="bundles/emoji-1")
    parser.add_argument("--json", type=Path, required=True, help="where the hashes go")
    parser.add_argument("--against", type=Path, help="hashes of before: exit 1 unless equal")
    parser.add_argument("--prompts", type=int, default=len(PROMPTS), help="so many of the list")
    parser.add_argument("--cuts", type=int, nargs="+", default=CUTS)
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS)
    args = parser.parse_args()
    found: dict[str, str] = {}
    for precision in args.precisions:
        for cut in args.cuts:
            found |= hashes(args.bundle, cut, precision, PROMPTS[: args.prompts])
    args.json.write_text(json.dumps(found, indent=1) + "\n")
    unequal = unequal_between_cuts(found)
    print(f"{len(found)} pictures; {len(unequal)} differ between cuts", *unequal, sep="\n  ")
    changed: list[str] = []
    if args.against is not None:
        before = json.loads(args.against.read_text())
        changed = [key for key in {**before, **found} if before.get(key) != found.get(key)]
        print(f"{len(changed)} of {len(before)} differ from {args.against}", *changed, sep="\n  ")
    sys.exit(bool(unequal or changed))


if __name__ == "__main__":
    main()
