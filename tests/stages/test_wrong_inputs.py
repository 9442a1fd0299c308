"""The commands of training and export with missing, empty and wrong inputs: one line each."""

import shlex
from pathlib import Path

import pytest

from cascade.commands.cli import main
from cascade.commands.exit_codes import BAD_INPUT
from tests.support.wrong_inputs import make_wrong_inputs

WRONG = ("nowhere", "file", "text", "bin", "empty")
LINES = (
    *(f"train base --data {name}" for name in WRONG),
    *(f"evaluate sr256 --data {name}" for name in WRONG),
    *(f"probe --data {name}" for name in WRONG),
    *(f"distill guidance base --checkpoints {name}" for name in WRONG),
    *(f"export --out new --data {name}" for name in WRONG),
    *(f"export --from diffusers-if {name} --out new" for name in WRONG),
    *(
        f"export --from {kind} {name} --out new"
        for name in WRONG
        for kind in ("guided-diffusion", "imagen-pytorch", "sr3")
    ),
    "train base --start nowhere --data nowhere", "train sr256 --regression --data nowhere",
    "train class8 --data nowhere", "train refine32 --data empty", "train base --loss l1",
    "train px8 --augmentation blur", "train class8 --augmentation blur --data nowhere",
    "train refine32 --half-steps 1", "train class8 --regression",
    "export --stages refine32 --out new", "export --stages class8 refine32 --out new",
    "export --stages px8 --truncated 0.5 --out new", "export --truncated 0.5 --out new",
    "train base --device nope --data nowhere", "distill steps base --to -1",
    "distill guidance base --teacher nope", "weights nowhere --checkpoints c",
    "weights tiny --checkpoints c", "weights tiny --stages nope --checkpoints c",
    "export --out tiny", "export --out file", "export --networks nope --out new",
    "export --networks base=nope --out new", "export --from nope a --out new",
    "export --from torch nope:x --out new", "export --from torch nope --out new",
    "export --from torch os:nope --out new", "export --from torch os:getcwd --out new",
    "export --from torch os:getcwd --gpu-forms fp16 --precisions int8 --out new",
    "data keywords --packages file", "data keywords --packages empty --out empty",
)  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the commands run in."""
    folder = tmp_path_factory.mktemp("wrong")
    make_wrong_inputs(folder)
    return folder


@pytest.mark.parametrize("line", LINES)
def test_it_is_one_line(
    line: str, inputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing escapes `main`, nothing is written, and the code says that it will fail again."""
    monkeypatch.chdir(inputs)
    monkeypatch.setenv("PATH", "/nowhere")  # no npm: nothing is fetched
    assert main(shlex.split(line)) == BAD_INPUT
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert not (inputs / "new").exists()
