"""`python -m bench.link SHAPE TARGET`: the child of `bench.link.child`; SHAPE is JSON."""

import asyncio
import json
import sys

from bench.link.proxy import until_ended
from bench.link.shape import LinkShape


async def stdin_closed() -> None:
    """Until the parent has closed its end, or is gone."""
    await asyncio.to_thread(sys.stdin.read)


def say(address: str) -> None:
    """Tell the parent where it listens."""
    sys.stdout.write(address + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    shape = LinkShape(**json.loads(sys.argv[1]))
    asyncio.run(until_ended(shape, sys.argv[2], ("127.0.0.1", 0), stdin_closed, say))
