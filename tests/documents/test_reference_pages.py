"""The generated parts of docs/reference: up to date, and nothing that the source has is missing."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import runtime_client
from runtime_server.config.config import ServerConfig
from tests.reference_pages import environment, errors, log_events, manifest, metrics, proto
from tests.reference_pages.__main__ import FOLDER, PARTS, stale
from tests.reference_pages.markdown import field_docs
from tests.reference_pages.settings_advice import ADVICE


def test_every_page_is_what_the_source_says() -> None:
    """Remedy: python -m tests.reference_pages."""
    assert list(stale()) == []


def test_every_variable_has_a_meaning_and_every_meaning_a_variable() -> None:
    """The table of the environment is complete, and names nothing that is gone."""
    assert sorted(environment.variables()) == sorted(environment.MEANINGS)


READS = """
import os
from runtime_client.credentials import TOKEN_VARIABLE
MINE = "B"
OURS = {"H": "1"}
os.environ.get("A"), os.environ[MINE], "C" in os.environ, os.environ.setdefault("D", "")
environment.get(TOKEN_VARIABLE)
[environment.get(name, "") for name in ("E", "F")]
os.environ.update(OURS)
unrelated.get("Z")
"""


def test_every_way_to_read_a_variable_is_found(tmp_path: Path) -> None:
    """Literal, constant, imported constant, comprehension, membership, update."""
    module = tmp_path / "module.py"
    module.write_text(READS)
    assert environment.read_in(module) == {"A", "B", "C", "D", "E", "F", "H", "CASCADE_TOKEN"}


def test_every_log_event_has_a_meaning() -> None:
    """And every field of one; none is left of what is gone."""
    found = log_events.events()
    assert sorted(found) == sorted(log_events.MEANINGS)
    used = {name for event in found.values() for name in event.fields}
    assert sorted(used) == sorted(log_events.FIELDS)


def test_every_error_has_a_remedy() -> None:
    """Each class of the tree, and no other."""
    assert sorted(kind.__name__ for kind in errors.kinds()) == sorted(errors.REMEDIES)


def test_every_setting_has_a_unit_and_a_symptom() -> None:
    """Each field of the configuration, and no other."""
    assert sorted(ADVICE) == sorted(field.name for field in fields(ServerConfig))


@pytest.mark.parametrize("kind", manifest.records(), ids=lambda kind: kind.__name__)
def test_every_field_of_the_manifest_has_words(kind: type) -> None:
    """Only what tells kinds apart needs none."""
    docs = field_docs(kind)
    assert [f.name for f in fields(kind) if not docs.get(f.name) and f.name != "kind"] == []


def declared() -> Iterator[tuple[str, str]]:
    """Names of the contract with their comments."""
    for each in proto.declarations(proto.SOURCE.read_text()):
        yield each.name, each.words
        for member in each.members:
            if member.kind != "oneof":
                yield f"{each.name}.{member.name}", member.words


def test_everything_of_the_contract_has_words() -> None:
    """A reader of another language has nothing else."""
    found = dict(declared())
    assert [name for name, words in found.items() if not words] == []
    assert {"GenerateRequest.resume", "Limits.max_joined_bytes", "Generate"} <= {
        name.removeprefix("CascadeService.") for name in found
    }


def test_a_line_of_the_contract_that_is_not_understood() -> None:
    """An error, rather than a page without it."""
    with pytest.raises(ValueError, match="not understood"):
        proto.declarations("package cascade.v1;\nmessage A {\n  reserved 3;\n}\n")


def test_a_metric_has_its_labels_before_it_has_samples() -> None:
    """Counters of a server that has done nothing yet."""
    line = next(row for row in metrics.metrics().splitlines() if "cascade_refused_total" in row)
    assert line.split(" | ")[1:4] == ["counter", "`reason`", "count"]


def test_the_public_names_of_the_client_are_those_it_exports() -> None:
    """`__all__` and the explicit re-exports are one list."""
    text = Path(runtime_client.__file__).read_text()
    assert runtime_client.__all__ == sorted(re.findall(r" as (\w+)$", text, re.MULTILINE))


def test_the_glossary_is_in_order_and_its_terms_are_single() -> None:
    """A reader finds a term where its letter is."""
    rows = re.findall(r"^\| \*\*(.+?)\*\*", (FOLDER / "glossary.md").read_text(), re.MULTILINE)
    assert rows == sorted(set(rows), key=str.lower)
    assert len(rows) > 50


def test_every_part_has_its_page() -> None:
    """Names are read from the pages by their markers."""
    made = {
        name for page in FOLDER.glob("*.md")
        for name in re.findall(r"<!-- made: (.+?) -->", page.read_text())
    }  # fmt: skip
    assert made == set(PARTS)
