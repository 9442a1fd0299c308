"""`python -m bench.link SHAPE TARGET`: the child of `bench.link.child`; shapes are JSON."""

import asyncio
import json
import sys

from bench.link.proxy import LinkProxy, serve_commands
from bench.link.shape import LinkShape


async def next_line() -> str:
    """What the parent writes; empty once it has closed its end, or is gone."""
    return await asyncio.to_thread(sys.stdin.readline)


def say(words: str) -> None:
    """A line for the parent."""
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


async def main() -> None:
    """The proxy of the command line."""
    proxy = LinkProxy(LinkShape(**json.loads(sys.argv[1])), sys.argv[2])
    await serve_commands(proxy, next_line, say)


if __name__ == "__main__":
    asyncio.run(main())
