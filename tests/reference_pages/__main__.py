"""Write the generated parts of docs/reference, or check them with `--check`.

A part lies between `<!-- made: NAME -->` and `<!-- end of NAME -->`; around it a page has prose.
Knows which page has which part; what a part says, the modules beside it know.
"""

import re
import sys
from collections.abc import Callable

from tests.reference_pages import (
    command_line,
    engines,
    environment,
    errors,
    log_events,
    manifest,
    metrics,
    model_card,
    proto,
    python_client,
)
from tests.reference_pages.markdown import ROOT

FOLDER = ROOT / "docs" / "reference"
PARTS: dict[str, tuple[str, Callable[[], str]]] = {
    "commands": ("cli.md", command_line.command_line),
    "exit codes": ("cli.md", errors.exit_codes),
    "errors": ("errors.md", errors.errors),
    "environment": ("environment.md", environment.environment),
    "log events": ("log-events.md", log_events.log_events),
    "log fields": ("log-events.md", log_events.log_fields),
    "metrics": ("metrics.md", metrics.metrics),
    "engines": ("engines.md", engines.engines),
    "calls": ("grpc-api.md", proto.calls),
    "messages": ("grpc-api.md", proto.messages),
    "manifest": ("bundle-format.md", manifest.manifest),
    "model card": ("model-card.md", model_card.model_card),
    "names": ("python-client.md", python_client.names),
}
"""By name of the part: its page, and what writes it."""


def written(page: str) -> str:
    """A page with every part of it made anew.

    Raises:
        ValueError: the page has no place for a part, or two.
    """
    text = (FOLDER / page).read_text()
    for name, (where, make) in PARTS.items():
        if where != page:
            continue
        begin, end = f"<!-- made: {name} -->", f"<!-- end of {name} -->"
        found = re.findall(re.escape(begin) + ".*?" + re.escape(end), text, re.DOTALL)
        if len(found) != 1:
            raise ValueError(f"docs/reference/{page} needs one place for {name!r}")
        text = text.replace(found[0], f"{begin}\n\n{make()}\n\n{end}")
    return text


def stale() -> dict[str, str]:
    """Pages that are not what they would be written as, with that text."""
    pages = dict.fromkeys(page for page, _ in PARTS.values())
    made = {page: written(page) for page in pages}
    return {page: text for page, text in made.items() if (FOLDER / page).read_text() != text}


def main() -> int:
    """Write or compare; 1 when a page differs."""
    found = stale()
    if "--check" not in sys.argv:
        for page, text in found.items():
            (FOLDER / page).write_text(text)
        return 0
    for page in found:
        words = "is stale, run `python -m tests.reference_pages`"
        sys.stderr.write(f"docs/reference/{page} {words}\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
