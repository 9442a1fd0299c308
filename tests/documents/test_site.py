"""The site of docs/: its menu has every page, and its hooks turn what a site needs otherwise."""

import ast
import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """docs/site_hooks.py, which is no package's module."""
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs/site_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pages_of(nav: Any) -> list[str]:
    """Every page of a menu."""
    if isinstance(nav, str):
        return [nav]
    entries = nav.values() if isinstance(nav, dict) else nav
    return [page for entry in entries for page in pages_of(entry)]


def test_the_menu_has_every_page(hooks: ModuleType) -> None:
    """Each once."""
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    config["docs_dir"] = str(ROOT / "docs")
    listed = pages_of(hooks.on_config(config)["nav"])
    there = [p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted(there)


def test_it_needs_no_network() -> None:
    """No fonts of others, and every warning an error."""
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert config["theme"]["font"] is False
    assert config["strict"] is True
    assert set(config["validation"]["links"].values()) == {"warn"}
    assert [key for key in config if key.startswith("extra")] == ["extra_css"]
    assert [(ROOT / "docs" / name).is_file() for name in config["extra_css"]] == [True]
    assert "url(" not in (ROOT / "docs/site.css").read_text()


def test_the_decisions_are_found_at_any_depth(hooks: ModuleType, tmp_path: Path) -> None:
    """Their heading gets every note, in order of number."""
    (tmp_path / "decisions").mkdir()
    for name in ("0002-b", "0001-a"):
        (tmp_path / f"decisions/{name}.md").write_text("# x\n")
    nav = ["index.md", {"Explanation": ["a.md", {"Decisions": []}]}]
    filled = hooks.on_config({"docs_dir": str(tmp_path), "nav": nav})["nav"]
    assert pages_of(filled) == ["index.md", "a.md", "decisions/0001-a.md", "decisions/0002-b.md"]


@pytest.mark.parametrize(
    ("link", "shown"),
    [
        ("[the noise](noise.md#seeds)", "[the noise](noise.md#seeds)"),
        ("[NOTICE](../NOTICE)", "`NOTICE`"),
        ("[a module](../stages/data/recolour.py)", "a module (`stages/data/recolour.py`)"),
        ("[why](decisions/)", "why"),
        ("[far](https://a.b/c)", "[far](https://a.b/c)"),
    ],
)
def test_links_that_lead_outside(hooks: ModuleType, link: str, shown: str) -> None:
    """They become words and a path; others stay."""
    page = SimpleNamespace(file=SimpleNamespace(src_uri="wire.md"))
    assert hooks.on_page_markdown(link, page, {"docs_dir": str(ROOT / "docs")}) == shown


def test_what_a_package_names(hooks: ModuleType) -> None:
    """What it imports under the same name for others; not what it imports for itself."""
    tree = ast.parse("from a.b import C as C\nfrom a import D\nfrom e import F as G\nimport h\n")
    assert hooks.face(tree) == ["a.b.C"]


def test_an_api_page(hooks: ModuleType, tmp_path: Path) -> None:
    """The package, then its names; those of other packages keep their one address there."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/__init__.py").write_text("from mine.a import A as A\nfrom b import B as B\n")
    page = SimpleNamespace(file=SimpleNamespace(src_uri="api/mine.md"))
    config = {"docs_dir": str(tmp_path / "docs")}
    lines = hooks.on_page_markdown("<!-- face: mine -->", page, config).split()
    assert [word for word in lines if word.startswith(("mine", "b."))] == [
        "mine",
        "mine.a.A",
        "b.B",
    ]
    assert lines[-2:] == ["skip_local_inventory:", "true"]


def test_a_package_without_a_face(hooks: ModuleType, tmp_path: Path) -> None:
    """Its modules, but for private ones."""
    (tmp_path / "mine").mkdir()
    for name in ("__init__", "_hidden", "b", "a"):
        (tmp_path / "mine" / f"{name}.py").write_text("")
    words = hooks.listed(tmp_path / "mine").split()
    assert [word for word in words if word.startswith("mine")] == ["mine", "mine.a", "mine.b"]
