"""The check of the built site, with sites made up here."""

from pathlib import Path

import pytest

from tests.documents import site_links
from tests.documents.site_links import offences

GOOD = {
    "index.html": '<a href="a/#x">a</a> <a href="#top">t</a> <p id="top"></p>'
    '<a href="https://example.org">far</a> <link rel="stylesheet" href="s.css">'
    '<link rel="canonical" href="https://example.org/">',
    "a/index.html": '<a name="x"></a> <a href="../index.html#top">up</a> <img src="../s.css">',
    "s.css": "",
}


def site(folder: Path, **changed: str) -> Path:
    """A site whose first page ends with something else."""
    for name, text in GOOD.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + (changed.get("more", "") if name == "index.html" else ""))
    return folder


def test_a_site_without_faults(tmp_path: Path) -> None:
    """Files, folders, anchors and links to elsewhere."""
    assert list(offences(site(tmp_path))) == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('<a href="b/">b</a>', "index.html: b/ is not there"),
        ('<img src="b.png">', "index.html: b.png is not there"),
        ('<a href="a/#y">y</a>', "index.html: a/#y is no anchor of that page"),
        (
            '<script src="https://example.org/x.js"></script>',
            "index.html: loads https://example.org/x.js from another host",
        ),
        (
            '<link rel="stylesheet" href="//fonts.example.org/x.css">',
            "index.html: loads //fonts.example.org/x.css from another host",
        ),
    ],
)
def test_each_fault_is_named(more: str, message: str, tmp_path: Path) -> None:
    """Page and target."""
    assert list(offences(site(tmp_path, more=more))) == [message]


def test_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 and nothing printed, or 1 and a line each; without a site it names the command."""
    monkeypatch.setattr("sys.argv", ["site_links", str(tmp_path)])
    assert site_links.main() == 1
    assert "run `make docs`" in capsys.readouterr().err
    site(tmp_path)
    assert (site_links.main(), capsys.readouterr().out) == (0, "")
    site(tmp_path, more='<a href="b">b</a>')
    assert (site_links.main(), capsys.readouterr().out) == (1, "index.html: b is not there\n")
