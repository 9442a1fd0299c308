"""Alerts and their runbook: a section each, no other; and Prometheus' own tools read the files."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.test_deploy import DEPLOY, alert_rules

RUNBOOK = DEPLOY.parent / "docs/how-to/runbook.md"
PARTS = ("**Meaning.**", "**First look.**", "**Remedy.**")


def sections() -> dict[str, str]:
    """The text of every section of the runbook that is named like an alert, by its heading."""
    parts = re.split(r"^## (\w+)$", RUNBOOK.read_text(), flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return {name: text for name, text in found.items() if name.startswith("Cascade")}


def test_every_alert_has_its_section_in_the_runbook() -> None:
    """And every section an alert, in the same order."""
    assert list(sections()) == [rule["alert"] for rule in alert_rules()]


def test_a_section_has_meaning_first_look_and_remedy() -> None:
    """The three parts that an operator who was woken looks for."""
    for name, text in sections().items():
        assert [part for part in PARTS if part not in text] == [], name


def test_an_alert_links_to_its_section() -> None:
    """`runbook_url` is the path of the page in the checkout and the heading's anchor."""
    page = RUNBOOK.relative_to(DEPLOY.parent).as_posix()
    for rule in alert_rules():
        assert rule["annotations"]["runbook_url"] == f"{page}#{rule['alert'].lower()}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "rules", "alerts.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "alerts_test.yml"],
    ],
    ids=lambda arguments: arguments[-1],
)
def test_prometheus_reads_the_files(arguments: list[str]) -> None:
    """With its own tool, which also plays series to the alerts and compares what fires."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed: apt install prometheus")
    done = subprocess.run(
        [tool, *arguments], cwd=DEPLOY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    """No unknown key and no broken value; the program is one that is here."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed")
    text = (DEPLOY / "cascade.service").read_text()
    unit = tmp_path / "cascade.service"
    unit.write_text(text.replace("/opt/cascade/bin/cascade", "/bin/true"))
    done = subprocess.run(
        [tool, "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
