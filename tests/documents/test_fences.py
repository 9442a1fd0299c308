"""Markers of the documents' blocks: what they are read as, and that no page lacks one."""

import pytest

from tests.documents.expected_output import matches
from tests.documents.fences import ROOT, fences, is_generated, pages, unmarked
from tests.documents.page_run import known_word

TWO = """\
Words.

<!-- run: tiny, exit 2 -->
```sh
cascade a
```

<!-- output -->

```text
no
```

- <!-- not run: needs a GPU -->
"""


def test_a_marker_belongs_to_the_fence_after_it() -> None:
    """Kind, words, language, text and line."""
    first, second = fences("x.md", TWO.rsplit("\n", 2)[0])
    assert (first.kind, first.words, first.language) == ("run", ("tiny", "exit 2"), "sh")
    assert (first.text, first.place) == ("cascade a", "x.md:4")
    assert (second.kind, second.value, second.text) == ("output", "", "no")


def test_an_indented_fence_loses_its_indentation() -> None:
    """That of a list."""
    (fence,) = fences("x.md", "  <!-- not run: it is yours -->\n  ```sh\n  a\n    b\n  ```\n")
    assert (fence.text, fence.kind, fence.value) == ("a\n  b", "not run", "it is yours")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- run: tiny -->\nWords.\n", "x.md:2: a marker belongs right before its fence"),
        ("```sh\ncascade a\n", "x.md:1: the fence is not closed"),
    ],
)
def test_a_page_that_cannot_be_read(text: str, message: str) -> None:
    """The message names the place."""
    with pytest.raises(ValueError, match=message):
        list(fences("x.md", text))


def test_a_block_without_a_marker_is_found() -> None:
    """Not on a page that a program writes."""
    bare = "# X\n\n```sh\ncascade a\n```\n"
    assert [fence.place for fence in unmarked("x.md", bare)] == ["x.md:3"]
    generated = f"<!-- generated: python -m x -->\n{bare}"
    assert is_generated(generated)
    assert unmarked("x.md", generated) == []


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a  b\n", "a b", True),
        ("took 1... ms", "took 17.3 ms", True),
        ("a\n...\nz", "a\nb\nc\nz\n", True),
        ("a\n...\nz", "a\nz\n", True),
        ("a", "a\nb", False),
        ("took 1... s", "took 17.3 ms", False),
        ("a.c", "abc", False),
    ],
)
def test_output_as_shown(shown: str, printed: str, same: bool) -> None:  # noqa: FBT001
    """Dots stand for what differs from run to run; all else is literal."""
    assert matches(shown, printed) is same


@pytest.mark.parametrize(
    ("printed", "same"),
    [("base 1,002 ms 0.5e-06", True), ("base ms 1", False), ("sr 2 ms 3", False)],
)
def test_numbers_that_vary(printed: str, same: bool) -> None:  # noqa: FBT001
    """Any number stands for any number, and for nothing else."""
    assert matches("base 17.3 ms 1", printed, "numbers vary") is same


def marked(kind: str) -> list[tuple[str, str]]:
    """Place and value of every block with a marker of that kind."""
    read = [f for page in pages() for f in fences(page, (ROOT / page).read_text())]
    return [(fence.place, fence.value) for fence in read if fence.kind == kind]


def test_every_block_of_every_page_has_a_marker() -> None:
    """None is neither run nor says why not."""
    assert [f.place for page in pages() for f in unmarked(page, (ROOT / page).read_text())] == []


def test_every_word_of_a_marker_means_something() -> None:
    """One that is misspelt would run something else."""
    wrong = [
        (fence.place, word)
        for page in pages()
        for fence in fences(page, (ROOT / page).read_text())
        for word in fence.words
        if not known_word(word)
    ]
    assert wrong == []


def test_a_block_that_is_not_run_says_why() -> None:
    """A reason has words; a block that another test reads names that test."""
    assert [place for place, reason in marked("not run") if len(reason.split()) < 2] == []
    for place, path in marked("checked by"):
        page = place.rsplit(":", 1)[0].rsplit("/", 1)[-1]
        assert page in (ROOT / path).read_text(), f"{place}: {path} does not read {page}"
