"""The runner of pages, with pages made up here: what it runs, compares and refuses."""

from pathlib import Path

import pytest

from tests.documents import page_run
from tests.documents.page_run import Part, Ports, lines_of, parts_of, run_part

STEPS = """\
<!-- run: tiny -->
```sh
export WORD=there   # kept for later blocks
mkdir sub && cd sub
```

<!-- file: hello.py -->
```python
print("hello", 127)
```

<!-- run: tiny -->
```sh
$ python hello.py; echo $WORD
```

<!-- output -->
```text
hello 1...
there
```

<!-- run: exit 3 -->
```sh
exit 3
```

<!-- run: tiny -->
```python
x = 2
```

<!-- run: continues -->
```python
print(x * 2)
```

<!-- output -->
```text
4
```
"""

SERVED = """\
<!-- run: background -->
```sh
cascade serve --listen 127.0.0.1:7860
```

<!-- run: tiny -->
```sh
cascade generate "a cat" --server 127.0.0.1:7860 -o cat.png -q
ls cat.png
```

<!-- output -->
```text
cat.png
```
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pages, in place of the checkout."""
    (tmp_path / "root").mkdir()
    monkeypatch.setattr(page_run, "ROOT", tmp_path / "root")
    return tmp_path / "root"


def parts(root: Path, text: str) -> list[Part]:
    """The runs of a page of that text."""
    (root / "page.md").write_text(text)
    return parts_of("page.md")


def run(root: Path, text: str) -> None:
    """Run a page of one part."""
    (part,) = parts(root, text)
    (root.parent / "work").mkdir()
    run_part(part, root.parent / "work")


def test_one_folder_and_one_shell(root: Path) -> None:
    """Variables, folders and files stay; outputs, exit codes and Python blocks are as shown."""
    run(root, STEPS)


def test_a_server_in_the_background(root: Path) -> None:
    """At a free port, awaited, and ended at the end."""
    run(root, SERVED)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("hello 1...", "hallo 1...", "page.md:18: shown"),
        ("exit 3\n```", "exit 4\n```", "exit code 4, not 3"),
        ("print(x * 2)", "print(y)", "page.md:34: failed"),
    ],
)
def test_what_does_not_come_out_as_shown(root: Path, old: str, new: str, message: str) -> None:
    """The message names the line of the block."""
    with pytest.raises(AssertionError, match=message):
        run(root, STEPS.replace(old, new))


def test_a_server_at_the_usual_port_is_refused(root: Path) -> None:
    """Another test may have one there."""
    with pytest.raises(ValueError, match=r"page.md:2: show --listen or --config"):
        run(root, SERVED.replace(" --listen 127.0.0.1:7860\n", "\n"))


def test_a_file_that_differs_from_the_checkouts(root: Path) -> None:
    """A page and an example of one name are the same text."""
    (root / "hello.py").write_text("print('bye')\n")
    with pytest.raises(ValueError, match=r"page.md:8: hello.py in the checkout is not the same"):
        run(root, STEPS)


def test_a_fresh_folder(root: Path) -> None:
    """From there on another run, with words of its own."""
    text = STEPS.replace("<!-- run: exit 3 -->", "<!-- run: fresh, exit 3 -->")
    assert [len(part.blocks) for part in parts(root, text)] == [4, 4]


def test_addresses_that_are_free_here() -> None:
    """One per port of the page, the same in every block; outputs get the page's again."""
    ports = Ports()
    inside = ports.inward("curl http://gpu.example:9464/x; cascade --server 127.0.0.1:7860")
    assert set(ports.free) == {"9464", "7860"}
    assert f"localhost:{ports.free['9464']}/x" in inside
    assert ports.inward("0.0.0.0:7860") == f"0.0.0.0:{ports.free['7860']}"
    assert ports.outward(f"at 127.0.0.1:{ports.free['7860']}") == "at 127.0.0.1:7860"


def test_measuring_takes_a_moment() -> None:
    """The page shows the command that a reader needs, without the time that a test has."""
    assert Ports().inward("cascade tune circles") == "cascade tune --seconds 0.05 circles"
    assert Ports().inward("cascade tune b --seconds 2 -q") == "cascade tune --seconds 0.05 b -q"


@pytest.mark.parametrize(("word", "more"), [("reference", " --max-batch-rows 1"), ("tiny", "")])
def test_servers_of_the_true_bundle_measure_no_rows(
    root: Path, tmp_path: Path, word: str, more: str
) -> None:
    """Those of bundles in miniature do."""
    (part,) = parts(root, f"<!-- run: {word} -->\n```sh\ncascade serve --dry-run\n```\n")
    (line,) = lines_of(part, Ports(), tmp_path)
    assert f"cascade serve{more} --dry-run" in line
