"""The list of what a light client installs: all that it needs, and no hub client."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cascade.bundle.bundle import Bundle
from tests.support.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).parents[2]
HUB = "huggingface-hub"
"""What `tokenizers` asks for and nothing here uses."""

WITHOUT = """
import sys
for name in sys.argv[2:]:
    sys.modules[name] = None
from runtime_client import Client
with Client(sys.argv[1], cut=4) as client:
    print(client.generate("a red apple").image.shape)
"""


def canonical(name: str) -> str:
    """A distribution's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, str]:
    """Names and versions of a file of requirements."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {canonical(name): version for name, _, version in (x.partition("==") for x in lines)}


def needed(name: str, extra: str, *, hub: bool) -> set[str]:
    """What a distribution needs to run here, itself left out; with or without the hub client."""
    found: set[str] = set()
    waiting = [(name, extra)]
    while waiting:
        current, wanted = waiting.pop()
        for text in requires(current) or ():
            requirement = Requirement(text)
            known = canonical(requirement.name)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": wanted})
            if applies and known not in found and (hub or known != HUB):
                found.add(known)
                waiting.append((known, ""))
    return found


def test_the_list_is_what_the_client_needs_without_the_hub() -> None:
    """Of the versions that everything else here is tested with."""
    listed = pins(ROOT / "deploy" / "light-client.txt")
    assert set(listed) == needed("edge-cascade", "cpu", hub=False)
    constrained = pins(ROOT / "constraints.txt")
    assert {name: constrained[name] for name in listed} == listed


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle whose steps take under a millisecond."""
    return write_tiny_bundle(tmp_path_factory.mktemp("light") / "bundle")


def test_a_picture_needs_nothing_that_is_not_on_the_list(bundle: Bundle) -> None:
    """With every module of the hub client, and of what it alone needs, not to be had."""
    try:
        extra = needed("edge-cascade", "cpu", hub=True) - needed("edge-cascade", "cpu", hub=False)
    except PackageNotFoundError:
        extra = {HUB}
    owners = packages_distributions()
    absent = [
        module
        for module, distributions in owners.items()
        if {canonical(name) for name in distributions} <= extra
    ]
    assert HUB in extra
    command = [sys.executable, "-c", WITHOUT, str(bundle.folder), *absent]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("(32, 32, 3)", "")
