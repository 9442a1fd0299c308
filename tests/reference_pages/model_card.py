"""The tables of the reference bundle's model card, as they lie in the bundle.

Knows Markdown; which figures are in the card, `cascade card` decides.
"""

from collections.abc import Iterator

from tests.reference_pages.markdown import ROOT

CARD = ROOT / "bundles" / "emoji-1" / "MODEL_CARD.md"


def kept() -> Iterator[str]:
    """Headings that have a table, and tables."""
    heading = ""
    for line in CARD.read_text().splitlines():
        if line.startswith("## "):
            heading = f"##{line.removeprefix('##')}"
        elif line.startswith("###"):
            heading = f"## {line.lstrip('# ')}"
        elif line.startswith("|"):
            if heading:
                yield f"\n{heading}\n"
                heading = ""
            yield line


def model_card() -> str:
    """The tables."""
    return "\n".join(kept()).strip()
