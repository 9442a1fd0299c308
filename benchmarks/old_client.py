"""Does a client of an older version still work with the present server?

    python -m benchmarks.old_client FOLDER [--python PYTHON] [--bundle DIR] [--old-bundle DIR]

FOLDER is a checkout of the older version; its client, and then the present one, go through the same
scenarios against one present server: pictures at cuts 0 to 3 by hash, errors by class, field and
code, a connection that breaks, a request that is detached, fetched and cancelled, an iterator that
is closed. Prints a line for each, and exits with 1 where the two differ or something did not
happen. Pictures are also compared with those that the present code makes without a server.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.lib import client_scenarios
from benchmarks.lib.record import write_record
from cascade.bundle.bundle import open_bundle
from tests.support.breakable_wire import BreakableWire
from tests.support.server_process import Victim, victim

MANIFEST = "manifest.json"


def other_bundle(bundle: Path, folder: Path) -> Path:
    """A bundle of another id: the same files under another name."""
    shutil.copytree(bundle, folder)
    manifest = json.loads((bundle / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "name": "another"}, sort_keys=True))
    return folder


def seen_by(
    checkout: Path, python: str, bundle: Path, server: Victim, breakable: BreakableWire
) -> dict[str, Any]:
    """What the client of a checkout sees of a server.

    Args:
        checkout: folder of its code.
        python: interpreter with what that code needs.
        bundle: that its code can open.
        server: the server.
        breakable: a way to it.
    """
    with tempfile.TemporaryDirectory() as folder:
        other = other_bundle(bundle, Path(folder) / "other")
        command = [python, "-P", client_scenarios.__file__, str(bundle), str(other)]
        command += [server.address, breakable.address]
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        with subprocess.Popen(
            command,
            cwd=checkout,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            return answered(child, server, breakable)


def answered(
    child: "subprocess.Popen[str]", server: Victim, breakable: BreakableWire
) -> dict[str, Any]:
    """Do what the child asks for, until its last line.

    Raises:
        RuntimeError: it ended without one.
    """
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("the child has no pipes")
    for line in child.stdout:
        word = line.strip()
        if word == "break":
            breakable.cut()
            answer = "broken"
        elif word == "idle?":
            server.wait_until_idle()
            answer = "idle"
        else:
            found: dict[str, Any] = json.loads(line)
            return found
        child.stdin.write(answer + "\n")
        child.stdin.flush()
    raise RuntimeError(f"the client ended early, exit code {child.wait()}")


def right_pictures(old: dict[str, Any], new: dict[str, Any]) -> dict[str, bool]:
    """By cut and prompt, whether the older client's pictures are right.

    What the server made equals what the present code makes alone, what the client made equals what
    its own code makes alone. Where these two differ (older code may round differently), the server
    starts from another picture than the present code, and its part cannot be compared by hash.
    """
    found = {}
    for name, pictures in old["pictures"].items():
        cut, _, prompt = name.removeprefix("cut ").partition(", ")
        count = max(0, int(cut) - 1)
        mine, here, own = (
            list(stages.items())
            for stages in (pictures, new["local"][prompt], old["local"][prompt])
        )
        if own[:count] == here[:count]:
            found[f"pictures: {name}: all stages as the present code's"] = (
                mine == here and new["pictures"][name] == new["local"][prompt]
            )
        else:
            found[
                f"pictures: {name}: its own {count} as its own code's, which rounds differently"
            ] = mine[:count] == own[:count] and len(mine) == len(here)
    return found


def compared(old: dict[str, Any], new: dict[str, Any]) -> dict[str, bool]:
    """By question, whether the answer is right."""
    first = new["local"][client_scenarios.PROMPTS[0]]
    checks = right_pictures(old, new)
    for name, error in old["errors"].items():
        checks[f"error: {name}: {error}"] = error == new["errors"][name] != ["nothing"]
    checks["resume: told of a break, every stage once, the same pictures"] = old["resume"] == new[
        "resume"
    ] and old["resume"] == {"resumed": True, "finished": len(first) + 1, "pictures": first}
    checks["detached: fetched, cancelled once, then unknown"] = (
        old["detached"] == new["detached"]
        and old["detached"]["pictures"] == first
        and old["detached"]["cancelled"] == [True, False]
        and old["detached"]["after"][0] == "UnknownRequest"
    )
    checks["cancel: a closed iterator ends the work"] = (
        old["cancel"] == new["cancel"] == {"server": "idle"}
    )
    return checks


def main() -> int:
    """Compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("checkout", type=Path, help="folder of the older version")
    parser.add_argument("--python", default=sys.executable, help="interpreter for its client")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument(
        "--old-bundle",
        type=Path,
        help="the bundle in a format that the older version reads (default: --bundle)",
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    here = Path(__file__).parents[1]
    old_bundle = (args.old_bundle or args.bundle).resolve()
    bundle = args.bundle.resolve()
    with victim(open_bundle(bundle)) as server, BreakableWire(server.address) as breakable:
        old = seen_by(args.checkout.resolve(), args.python, old_bundle, server, breakable)
        new = seen_by(here, sys.executable, bundle, server, breakable)
    checks = compared(old, new)
    for name, is_right in checks.items():
        print(f"{'yes' if is_right else 'NO ':4} {name}")
    if args.json is not None:
        write_record(args.json, {"checks": checks, "old": old, "new": new})
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
