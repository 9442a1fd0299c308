"""Both sides of every limit of the documents: what fits passes, one more does not."""

import re
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from cascade.bundle.bundle import Bundle
from runtime_server import ServerConfig
from tests.attacks.limits import Ground, Limit
from tests.attacks.tables import LIMITS, SHOWN_ELSEWHERE, pages, with_tables
from tests.support.serving import RunningServer, running, wait_until
from tests.support.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).parents[2]
SECURITY_MODEL = ROOT / "docs/explanation/security-model.md"
EACH = pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
BOUND = re.compile(r"^((?:MAX|MIN)_[A-Z_]+)\b", re.MULTILINE)
NO_LIMITS_OF_A_CALL = {
    "cascade/codecs/onnx_files.py:MAX_TAG",
    "cascade/codecs/strict_json.py:MAX_FLOAT",
    "cascade/tuning/records.py:MAX_BYTES",
    "cascade/engines/trt_options.py:MAX_BATCH",
    "cascade/engines/trt_options.py:MAX_TOKENS",
    "cascade/engines/engine_cache.py:MAX_HEADER_BYTES",
    "runtime_server/telemetry/logs.py:MAX_FRAMES",
    "cascade/pixels/copying.py:MAX_OFFSET",
    "cascade/pixels/mixture.py:MAX_CANDIDATES",
    "cascade/pixels/order.py:MAX_PERIOD",
    "cascade/pixels/planes.py:MAX_NARROW_BITS",
    "cascade/pixels/scheme.py:MAX_PASSES",
    "runtime_client/cli/doctor_server.py:MAX_CLAIMS",
    "runtime_client/cli/many_pictures.py:MAX_PROMPTS_BYTES",
    "runtime_client/config.py:MAX_PEM_BYTES",
    "runtime_client/planning/learned.py:MAX_BYTES",
}
"""Formats of files, and what only ever comes from who runs the command."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle in miniature."""
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="module")
def server(bundle: Bundle) -> Iterator[RunningServer]:
    """A server with the defaults; nothing is left in it."""
    with running(bundle) as shared:
        yield shared
        wait_until(lambda: shared.is_at_rest)


@pytest.fixture
def ground(bundle: Bundle, server: RunningServer, tmp_path: Path) -> Ground:
    """What a probe stands on."""
    return Ground(bundle, server, tmp_path)


@EACH
def test_what_fits_passes(limit: Limit, ground: Ground) -> None:
    """The last value within."""
    assert limit.probe(ground, limit.within) == limit.passes


@EACH
def test_what_does_not_fit_is_refused(limit: Limit, ground: Ground) -> None:
    """The first value beyond, with its typed answer."""
    assert limit.probe(ground, limit.beyond) == limit.refused


def test_limits_are_set_where_the_table_says() -> None:
    """Every constant and every setting named there exists."""
    settings = {field.name for field in fields(ServerConfig)}
    for setter in (setter for limit in LIMITS for setter in limit.set_by):
        path, colon, name = setter.partition(":")
        if colon:
            assert hasattr(import_module(path.removesuffix(".py").replace("/", ".")), name), setter
        else:
            assert setter in settings | {"the bundle"}


def test_no_limit_is_missing_from_the_table() -> None:
    """Whoever adds a bound adds its two sides; a test elsewhere counts if it exists."""
    known = {setter for limit in LIMITS for setter in limit.set_by} | NO_LIMITS_OF_A_CALL
    for setter, (file, name) in SHOWN_ELSEWHERE.items():
        assert f"def {name}(" in (ROOT / file).read_text(), name
        known.add(setter)
    found = {
        f"{path.relative_to(ROOT)}:{name}"
        for package in ("cascade", "wire", "runtime_client", "runtime_server")
        for path in (ROOT / package).rglob("*.py")
        for name in BOUND.findall(path.read_text())
    }
    found |= {
        field.name
        for field in fields(ServerConfig)
        if field.name.startswith(("max_", "quota_"))
        or field.name.endswith(("_bytes", "_patience_s"))
    }
    assert sorted(found - known) == []
    names = [limit.name for limit in LIMITS]
    assert len(set(names)) == len(names)


def test_the_tables_are_those_of_the_tests() -> None:
    """Remedy: python -m tests.attacks.tables."""
    for page in pages():
        assert page.read_text() == with_tables(page), page


@pytest.mark.parametrize("page", [*pages(), SECURITY_MODEL], ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    """Files where they are said to be, functions among those of the attacks."""
    text = page.read_text()
    here = Path(__file__).parent
    for path in re.findall(r"`((?:tests/[a-z_/]+/)?(?:test_[a-z_]+\.py))", text):
        assert (ROOT / path).is_file() or (here / path).is_file(), path
    attacks = "".join(path.read_text() for path in here.glob("test_*.py"))
    for name in re.findall(r"`(test_[a-z_]+)`", text):
        assert f"def {name}(" in attacks, name
