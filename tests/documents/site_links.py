"""Check the built site: `python -m tests.documents.site_links [build/site]`, part of `make docs`.

Every link inside the site leads to a file and, where it names one, to an anchor of that file; and a
reader's browser asks no other host for anything: no script, style, font or picture. Links that a
reader clicks may lead anywhere. Prints every offender and exits with 1. Knows HTML; not how the
site is made.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""Tags whose target a browser loads by itself."""
NOT_LOADED = {"canonical", "next", "prev", "alternate"}
"""Kinds of `link` that are information."""


@dataclass
class Page(HTMLParser):
    """One page: what it links to, what it loads, which anchors it has."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin to parse."""
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note anchors and targets."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and set(given.get("rel", "").split()) & NOT_LOADED:
            return
        if tag in LOADED and LOADED[tag] in given:
            self.loaded.append(given[LOADED[tag]])


def read(path: Path) -> Page:
    """A page of the site."""
    page = Page()
    page.feed(path.read_text())
    return page


def offences(site: Path) -> Iterator[str]:
    """One line for everything that leads nowhere or asks another host."""
    pages = {path.resolve(): read(path) for path in site.rglob("*.html")}
    for path, page in sorted(pages.items()):
        name = path.relative_to(site.resolve()).as_posix()
        for target in page.loaded:
            if urlsplit(target).netloc:
                yield f"{name}: loads {target} from another host"
        for target in [*page.links, *page.loaded]:
            yield from (f"{name}: {why}" for why in broken(target, path, site.resolve(), pages))


def broken(target: str, path: Path, site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Why a target inside the site leads nowhere."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return
    start = site if parts.path.startswith("/") else path.parent
    found = (start / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
    if found.is_dir():
        found /= "index.html"
    if not found.is_file():
        yield f"{target} is not there"
    elif parts.fragment and found in pages and unquote(parts.fragment) not in pages[found].anchors:
        yield f"{target} is no anchor of that page"


def main() -> int:
    """Print what is wrong; 0 if nothing is."""
    site = Path(sys.argv[1] if len(sys.argv) > 1 else "build/site")
    if not (site / "index.html").is_file():
        sys.stderr.write(f"{site} holds no site: run `make docs`\n")
        return 1
    found = list(offences(site))
    sys.stdout.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
