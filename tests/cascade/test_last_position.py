"""Where a request ends in a bundle, by the name of its last stage."""

import pytest

from cascade.bundle.bundle import Bundle
from cascade.errors import ManifestError
from cascade.stage_factory import last_position
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Three stages after a text encoder."""
    return write_tiny_bundle(tmp_path_factory.mktemp("last") / "tiny")


@pytest.mark.parametrize(("name", "position"), [(None, 3), ("base", 1), ("sr16", 2), ("sr32", 3)])
def test_a_request_ends_where_it_says(bundle: Bundle, name: str | None, position: int) -> None:
    """The last stage goes by name; without one it is the cascade's last."""
    assert last_position(bundle.manifest, name) == position


def test_a_request_cannot_end_elsewhere(bundle: Bundle) -> None:
    """An unknown last stage is refused with the known names."""
    with pytest.raises(ManifestError, match="this bundle has text_encoder, base, sr16, sr32"):
        last_position(bundle.manifest, "sr64")
