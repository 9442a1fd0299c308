"""How large, how fast and how near to torch are the files of `cascade export-phone`, side by side?

    python -m benchmarks.phone_table FOLDER [FOLDER ...]

Each folder is one that the command wrote, in the environment of its framework; the table is made
of their records alone. Milliseconds are those of the machine that wrote them.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def row(target: str, entry: Mapping[str, Any]) -> str:
    """One file as a line of a Markdown table."""
    if not entry["was_run"]:
        speed, near = "not run", "not run"
    else:
        speed = f"{entry['milliseconds']:.1f}"
        near = f"{entry['psnr_db']:.0f} dB" if "psnr_db" in entry else "equal"
    size = f"{entry['size_bytes'] / 1e6:.2f}"
    return f"| {target} | {Path(entry['file']).stem} | {size} | {speed} | {near} |"


def table(folders: list[Path]) -> str:
    """The whole table."""
    lines = ["| target | graph | MB | ms a run | from torch |", "|---|---|---|---|---|"]
    for folder in folders:
        record = json.loads((folder / "phone.json").read_text())
        lines += [row(record["target"], entry) for entry in record["files"]]
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="of `cascade export-phone`")
    print(table(parser.parse_args().folders))


if __name__ == "__main__":
    main()
