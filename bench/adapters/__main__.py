"""`python -m bench.adapters`: the requests of `cascade bench` for AIPerf and MLPerf endpoints.

Both harnesses send them to the HTTP door of `cascade serve --http`. Each request has the prompt and
the seed that `cascade bench run` gives its request of that number, so the pictures are the same.
Writes files; sends nothing.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.adapters.harness_files import aiperf_files, endpoints_files
from bench.workload import Workload, read_workload
from cascade.errors import CascadeError, InvalidRequest

MOST = 100_000


def files_of(args: argparse.Namespace, workload: Workload) -> Mapping[str, str]:
    """Every file by its name in the folder.

    Raises:
        InvalidRequest: the number of requests is out of bounds.
    """
    if not 1 <= args.requests <= MOST:
        raise InvalidRequest(
            f"requests: expected 1 to {MOST}, got {args.requests}", field="requests"
        )
    items = [workload.item(number) for number in range(args.requests)]
    extra = {} if args.size is None else {"size": args.size}
    return {**aiperf_files(items, extra), **endpoints_files(items, extra, args.url)}


def main(words: Sequence[str] | None = None) -> int:
    """Write the files and say their names."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.adapters", description=__doc__, allow_abbrev=False
    )
    add = parser.add_argument
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the files")
    add("--url", default="http://127.0.0.1:8080", help="of the HTTP door")
    add("--requests", type=int, default=64, metavar="N", help="how many")
    add("--prompts", type=Path, metavar="FILE", help="as of `cascade bench run`")
    add("--seed", type=int, default=0, metavar="N", help="as of `cascade bench run`")
    add("--size", metavar="WxH", help="stop after the stage of that size (default: the last)")
    args = parser.parse_args(words)
    try:
        files = files_of(args, read_workload(args.prompts, args.seed))
    except CascadeError as exc:
        parser.error(str(exc))
    for name, text in files.items():
        path = args.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
