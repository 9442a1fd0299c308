"""What is installed, against what is declared: on environments that are not this one."""

from pathlib import Path

from cascade import __version__
from cascade.diagnosis.findings import Finding, Level
from cascade.diagnosis.requirements import parse_requirement
from cascade.diagnosis.software import (
    Declared,
    declared_here,
    declared_in,
    of_tested,
    software_findings,
)

ROOT = Path(__file__).parents[3]
LINES = (
    "numpy<3,>=2.0",
    "onnxruntime<2,>=1.23; extra == 'cpu'",
    "onnxruntime-gpu<2,>=1.23; extra == 'gpu'",
    "pyjwt; extra == 'server'",
    "edge-cascade[sign]; extra == 'server'",
    "cryptography>=44; extra == 'sign'",
)
DECLARED = Declared(version=__version__, requirements=tuple(map(parse_requirement, LINES)))


def found(installed: dict[str, str], declared: Declared = DECLARED) -> dict[str, Finding]:
    """The findings by name, of an environment with these distributions."""
    return {f.name: f for f in software_findings(declared, installed.get)}


def test_a_whole_environment() -> None:
    """Extras that are whole and extras that are not; an extra counts what it names."""
    findings = found({"numpy": "2.1", "onnxruntime": "1.24", "pyjwt": "2"})
    assert {f.level for f in findings.values()} == {Level.OK}
    facts = findings["extras"].facts
    assert (facts["installed"], facts["missing"]) == (["cpu"], ["gpu", "server", "sign"])
    assert findings["packages"].facts["versions"] == {"numpy": "2.1"}


def test_a_package_that_is_missing_or_too_old() -> None:
    """An error with the range as pip takes it."""
    for version, words in ((None, "it is not installed"), ("1.26.4", "it is 1.26.4")):
        findings = found({} if version is None else {"numpy": version})
        assert findings["numpy"].level is Level.ERROR
        assert findings["numpy"].text.startswith(words)
        assert findings["numpy"].remedy.endswith("-m pip install 'numpy>=2.0,<3'")
        assert "packages" not in findings


def test_a_pin_that_differs_in_an_extra() -> None:
    """A warning: what does not use the extra works."""
    finding = found({"numpy": "2.1", "onnxruntime": "1.20"})["extra cpu"]
    assert finding.level is Level.WARNING
    assert "onnxruntime 1.20 (needed: >=1.23,<2)" in finding.text
    assert finding.remedy.endswith("install 'onnxruntime>=1.23,<2'")


def test_two_builds_of_one_package() -> None:
    """Either is right alone."""
    both = {"numpy": "2.1", "onnxruntime": "1.24", "onnxruntime-gpu": "1.24"}
    finding = found(both)["onnxruntime"]
    assert finding.level is Level.WARNING
    assert "uninstall -y onnxruntime onnxruntime-gpu && " in finding.remedy
    assert "onnxruntime" not in found({"numpy": "2.1", "onnxruntime": "1.24"})


def test_code_that_is_newer_than_its_metadata() -> None:
    """A checkout that was updated and not installed again, and one that never was installed."""
    for version, words in (("0.0.1", "another version than the metadata"), ("", "not installed")):
        declared = Declared(version=version, requirements=DECLARED.requirements)
        finding = found({"numpy": "2.1"}, declared)["edge-cascade"]
        assert (finding.level, words in finding.text) == (Level.WARNING, True)
        assert " -m pip install -e " in finding.remedy


def test_versions_that_the_tests_ran_with(tmp_path: Path) -> None:
    """Counted where the list lies beside the code; builds of one version are the same."""
    pins = tmp_path / "constraints.txt"
    pins.write_text("# made by pip\ntorch==2.13.0\nNum_Py==2.4.6\nabsent==1\n")
    installed = {"torch": "2.13.0+cpu", "num-py": "2.4.5"}
    (finding,) = of_tested(installed.get, pins)
    assert finding.level is Level.OK
    assert finding.text == "1 of 2 packages are as in constraints.txt: num-py 2.4.5 (tested: 2.4.6)"
    assert list(of_tested(installed.get, tmp_path / "none")) == []


def test_what_is_declared_here() -> None:
    """The metadata and the checkout's file say the same, in extras too."""
    written = declared_in(ROOT / "pyproject.toml")
    assert written
    assert set(declared_here(ROOT).of("server")) == set(
        Declared(version="", requirements=written).of("server")
    )
