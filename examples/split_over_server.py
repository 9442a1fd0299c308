"""The same picture at every cut: on the device alone, split, and on the server alone.

    cascade serve --listen 127.0.0.1:7860
    python examples/split_over_server.py 127.0.0.1:7860 "a robot, fluent style"

Both sides must compute in the same precision, so this asks for float32 everywhere: start the server
with `--precision fp32` too.
"""

import sys

from runtime_client import Client


def main(server: str, prompt: str) -> None:
    """Draw at every cut and compare with the picture of the device alone."""
    with Client("bundles/emoji-1", cut=4, precision="fp32") as client:
        expected = client.generate(prompt, seed=3).image
    for cut in (3, 2, 1):
        with Client("bundles/emoji-1", server=server, cut=cut, precision="fp32") as client:
            result = client.generate(prompt, seed=3)
        different = int((result.image != expected).sum())
        sides = ", ".join(f"{stage} {side}" for stage, side in result.sides.items())
        print(f"cut {cut}: {sides}; {result.bytes_up} bytes up; {different} values differ")


if __name__ == "__main__":
    main(*sys.argv[1:])
