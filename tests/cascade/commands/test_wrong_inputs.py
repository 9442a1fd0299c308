"""Every command with missing, empty and wrong inputs: one line, a known code, no traceback."""

import shlex
from pathlib import Path

import pytest

from cascade.bundle.default_bundle import VARIABLE
from cascade.commands.cli import main
from cascade.commands.exit_codes import BAD_INPUT, FAILED
from cascade.commands.table import COMMANDS
from tests.support.command_line import cascade
from tests.support.wrong_inputs import make_wrong_inputs

GENERATE = "generate a -o x.png --bundle tiny"
DEAD = "--server 127.0.0.1:1 --bundle tiny --wait 0"
KINDS = ("nowhere", "file", "text", "list", "bin", "empty")
LINES = (
    *(f"{command} {name}" for command in ("inspect", "verify", "upgrade", "tune", "card")
      for name in ("nowhere", "empty", "file")),
    *(f"verify tiny --require-signature {name}" for name in ("nowhere", "text", "bin", "empty")),
    *(f"sign tiny --key {name}" for name in ("nowhere", "text", "bin", "empty")),
    "sign", "sign nowhere --key nowhere", "sign --make-key empty", "sign --make-key nowhere/key",
    "upgrade tiny", "upgrade",
    "tune tiny --component nope", "tune tiny --threads -1", "tune tiny --threads 99999",
    "tune tiny --seconds -1",
    *(f"card tiny --quality {name}" for name in KINDS),
    "build-engines nowhere", "build-engines tiny --component nope",
    "build-engines tiny --compute-capability x", "build-engines tiny --cache file",
    "build-engines tiny --max-batch 0", "build-engines tiny --size 0",
    "generate", "generate a", "generate a -o x.png --bundle nowhere", "generate ''  -o x.png",
    "generate a -o nowhere/x.png --bundle tiny", "generate a -o x.nope --bundle tiny",
    "generate a -o empty --bundle tiny",
    *(f"generate --from {name} -o x.png --bundle tiny" for name in KINDS),
    *(f"generate --picture {name} -o x.png --bundle tiny" for name in KINDS),
    *(f"{GENERATE} {flags}" for flags in (
        "--steps base", "--steps nope=1", "--set a", "--set a.b=c", "--cut 9", "--cut -1",
        "--seed -1", "--preview file", "--engine nope", "--precision nope", "--threads 99999",
        "--label 1", "--first-stage nope", "--last-stage nope", "--server nope", "--timeout 0",
        "--server 127.0.0.1:1 --token-file nowhere", "--server 127.0.0.1:1 --token-file empty",
        "--server 127.0.0.1:1 --tls --ca nowhere", "--server 127.0.0.1:1 --tls --ca file",
        "--server 127.0.0.1:1 --tls --ca bin", "--server 127.0.0.1:1 --wait -1",
        "--server 127.0.0.1:1 --tls --client-cert text --client-key text",
        "--require-signature bin",
    )),
    *(f"{GENERATE} --edit {name}" for name in KINDS),
    *(f"{GENERATE} {flags}" for flags in ("--mask file", "--strength 2", "--size 3", "--size 0x9")),
    *(f"{GENERATE} --vector {v}" for v in ("a", "a=b", "a=@file", "a=1 a=1", "A=1", "a=nan")),
    f"{GENERATE} --server 127.0.0.1:1 --wait 0",
    "fetch x -o y.png", f"fetch x -o y.png {DEAD}", f"fetch '' -o y.png {DEAD}",
    "cancel x", f"cancel x {DEAD}", "cancel",
    "doctor tiny --server nope", "doctor tiny --tls", "doctor tiny --timeout -1",
    *(f"serve --config {name}" for name in ("nowhere", "text", "bin", "empty", "list")),
    "serve --bundle tiny --listen nope", "serve --bundle tiny --threads -1",
    "serve --bundle tiny --metrics-listen nope", "serve --bundle tiny --http nope",
    "serve --bundle tiny --http 0.0.0.0:1", "serve --bundle tiny --nope",
    "token", "token ''", "token a b", "completion fish", "nope", "data", "data nope",
    *("train nope", "distill", "distill nope base", "evaluate nope", "probe --steps x"),
    "bundle", "bundle copy", "bundle copy nowhere out", "bundle copy tiny out --components nope",
    "bundle pull 127.0.0.1:1 out --wait 0", "bench", "bench run", "bench run --bundle nowhere",
    "bench run -o x.json --requests 0", "bench grid", "bench report nowhere -o x.html",
    "bench report text -o x.html", "bench compare nowhere text", "bench compare text bin",
    "plan", "plan a --bundle tiny", f"plan a {DEAD}", f"plan a {DEAD} --what-if rtt",
    "export-triton tiny", "export-triton nowhere -o r", "export-triton tiny -o r --tokens 15",
    "export-triton tiny -o r --component nope", "export-triton tiny -o r --precision nope",
    f"{GENERATE} --engine triton", f"{GENERATE} --engine triton:a:b",
    "plan a --bundle tiny --capacity", f"plan a {DEAD} --capacity", "plan a --bundle tiny --cut 1",
    f"plan a {DEAD} --within soon", "plan a --bundle tiny --server nope",
    f"{GENERATE} --within 1s --server 127.0.0.1:1 --format webp",
    f"{GENERATE} --within 1s --server 127.0.0.1:1 --wait 0",
    f"{GENERATE} --within 1s", f"{GENERATE} --cut best", f"{GENERATE} --cut auto --within 0",
    f"upscale --kept x -o x.png {DEAD}", "upscale --kept x -o x.png --bundle tiny",
    f"upscale file --kept x -o x.png {DEAD}", "upscale --kept-stage base -o x.png --bundle tiny",
    "upscale", *(f"upscale {name} -o x.png --bundle tiny" for name in KINDS),
    "web --page nowhere", "weights tiny", "weights", "export-phone tiny", "export --from",
    "export --precisions nope", "export --gpu-forms nope",
    "export --upscaler empty",
)  # fmt: skip
"""Each of them is refused before any work."""
REPORTS = ("doctor nowhere", "doctor tiny --require-signature bin")
"""Commands that print what is wrong where others print a result."""
SERVED = (
    "serve --bundle nowhere",
    "serve --bundle tiny --tls-cert text --tls-key text",
    "serve --bundle tiny --token-keys bin",
    "serve --bundle tiny --dry-run --engine nope",
)
"""In a process of their own: they take over its logs."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the commands run in."""
    folder = tmp_path_factory.mktemp("wrong")
    make_wrong_inputs(folder)
    return folder


@pytest.fixture(autouse=True)
def in_folder(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative names are the folder's, and no bundle is chosen by a variable."""
    monkeypatch.chdir(inputs)
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.mark.parametrize("line", LINES)
def test_it_is_one_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing escapes `main` (that would be the traceback), and what it says ends with a code."""
    code = main(shlex.split(line))
    said = capsys.readouterr()
    assert code in (BAD_INPUT, FAILED), said.out
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.out + said.err


@pytest.mark.parametrize("line", REPORTS)
def test_a_report_says_it(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard output, with the same codes."""
    assert main(shlex.split(line)) == BAD_INPUT
    said = capsys.readouterr()
    assert ("error" in said.out, said.err) == (True, "")


@pytest.mark.parametrize("line", SERVED)
def test_a_server_does_not_start(line: str) -> None:
    """One line, and the code that tells a supervisor not to try again."""
    done = cascade(*shlex.split(line))
    assert done.returncode == BAD_INPUT
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


def test_every_command_is_tried() -> None:
    """A new one needs a line here."""
    tried = {line.split()[0] for line in (*LINES, *SERVED)}
    assert {name for names in COMMANDS.values() for name in names} <= tried
