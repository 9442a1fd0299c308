"""Run the blocks of a page as a reader does: one folder, one shell, from above to below.

The words of a marker `<!-- run: WORDS -->`, with commas between them:

    tiny, reference    bundles/emoji-1 is one in miniature (the default), or the true one
    NAME               one of `tests.documents.workspace.PREPARATIONS`, made before the first block
    fresh              a new folder and a new shell from this block on
    background         a server: goes on while later blocks run, awaited until it listens
    exit N             the block ends with exit code N
    continues          of Python: the Python block before it comes first
    torch, node, ...   skipped where that is not installed

Addresses of a page are replaced: ports of 127.0.0.1, localhost and 0.0.0.0 by free ones, the host
`gpu.example` by `localhost`; what is printed is turned back before it is compared. `cascade tune`
measures for a moment only, and servers of the true bundle do not measure how many rows may share
a run: that takes half a minute of a processor, ten times the rest of their start. A line `cascade
serve ... &` is awaited like a block in the background; either must name its port or its
configuration. At the end every server gets SIGTERM and must exit with 0, and every file that a
command was given with `-o` is there. Knows pages, shells and ports; what a command does is for its
page to say.
"""

import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tests.documents.expected_output import matches, normal
from tests.documents.fences import ROOT, Fence, fences
from tests.documents.workspace import PREPARATIONS, make_workspace, reference_bundle, surroundings

SHELLS = ("", "sh", "bash", "shell", "console")
PORT = re.compile(r"(?<=:)\d{4,5}\b")
ADDRESS = re.compile(r"(?:127\.0\.0\.1|0\.0\.0\.0|localhost|gpu\.example):(\d{4,5})\b")
HOST = "gpu.example"
TUNE = re.compile(r"\bcascade tune\b(?:(.*) --seconds [\d.]+)?")
SERVE = re.compile(r"\bcascade serve\b")
OUTPUT = re.compile(r"^(?:\$ )?cascade (?:generate|fetch)\b.*\s-o ([\w./-]*\w)", re.MULTILINE)
SERVER = re.compile(r"^[^#]*\bcascade serve\b.*&\s*(#.*)?$")
PACKAGES = {
    "torch": ("torch",),
    "openvino": ("openvino",),
    "diffusers": ("diffusers",),
    "tensorrt": ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"),
}
"""By word: packages of which one is needed."""
PROGRAMS = ("node", "npm", "java", "kotlinc", "protoc", "openssl", "grpcurl", "curl")
PLAIN = {"tiny", "reference", "fresh", "background", "continues"}
SECONDS = 900
"""Of a whole page, on a machine that is busy with others."""

PRELUDE = """\
exec </dev/null
await() {  # until the log of a server says that it listens; not if the server has ended
  for _ in $(seq 3000); do
    grep -q '"listening"' "$2" && return 0
    kill -0 "$1" 2>/dev/null || { cat "$2" >&2; return 1; }
    sleep 0.1
  done
  return 1
}
finish() {  # every job in the background ends with 0 at SIGTERM
  code=$?
  for job in $(jobs -p); do
    kill -TERM "$job" 2>/dev/null; wait "$job" || code=90
  done
  exit $code
}
trap finish EXIT
set -e
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Blocks of one page that share a folder and a shell."""

    page: str
    number: int
    blocks: tuple[Fence, ...]

    @property
    def words(self) -> set[str]:
        """All words of their markers."""
        return {word for block in self.blocks for word in block.words}

    @property
    def lacks(self) -> list[str]:
        """What is not installed here."""
        packages = [w for w in self.words if w in PACKAGES and not any(map(find_spec, PACKAGES[w]))]
        return packages + [w for w in self.words if w in PROGRAMS and shutil.which(w) is None]


@dataclass(slots=True)
class Ports:
    """Free ports for those that a page shows."""

    free: dict[str, str] = field(default_factory=dict)

    def inward(self, text: str) -> str:
        """A block with ports that are free here."""
        for shown in ADDRESS.findall(text):
            if shown not in self.free:
                self.free[shown] = str(free_port())
        replaced = PORT.sub(lambda found: self.free.get(found[0], found[0]), text)
        return TUNE.sub(r"cascade tune --seconds 0.05\1", replaced.replace(HOST, "localhost"))

    def outward(self, text: str) -> str:
        """What was printed, with the page's ports."""
        back = {here: shown for shown, here in self.free.items()}
        return PORT.sub(lambda found: back.get(found[0], found[0]), text)


def free_port() -> int:
    """One that nothing listens at, below those that the kernel gives to whom asks for any."""
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) != 0:
                return port


def parts_of(page: str) -> list[Part]:
    """The runs of a page; `fresh` begins another one."""
    groups: list[list[Fence]] = [[]]
    for fence in fences(page, (ROOT / page).read_text()):
        if "fresh" in fence.words:
            groups.append([])
        if fence.kind in ("run", "file", "output"):
            groups[-1].append(fence)
    runs = [group for group in groups if any(fence.kind == "run" for fence in group)]
    return [Part(page=page, number=n, blocks=tuple(group)) for n, group in enumerate(runs)]


def known_word(word: str) -> bool:
    """Whether a marker may hold it."""
    known = PLAIN | set(PREPARATIONS) | set(PACKAGES) | set(PROGRAMS)
    return word in known or re.fullmatch(r"exit \d+", word) is not None


def prepare(part: Part, folder: Path) -> None:
    """The folder that its blocks begin with."""
    make_workspace(folder)
    (folder / ".venv").symlink_to(sys.prefix)
    for name in ("benchmarks", "tests"):  # they are used from a checkout, and not installed
        (folder / name).symlink_to(ROOT / name)
    if "reference" in part.words:
        reference_bundle(folder)
    for name in sorted(part.words & set(PREPARATIONS)):
        PREPARATIONS[name](folder)


def run_part(part: Part, folder: Path) -> None:
    """Run the blocks and compare what they print.

    Raises:
        AssertionError: a block failed or printed something else; the message names its line.
    """
    prepare(part, folder)
    ports, logs = Ports(), folder / ".logs"
    logs.mkdir()
    script = PRELUDE + "".join(lines_of(part, ports, logs))
    done = subprocess.run(
        ["/bin/bash", "-c", script], cwd=folder, env=surroundings(folder), capture_output=True,
        text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        raise AssertionError(failure(part, logs, done.stderr))
    compare(part, ports, logs)
    for fence, name in files_made(part):
        # `--count` and `--prompts` number what they write.
        numbered = f"{Path(name).stem}-000{Path(name).suffix}"
        found = [path for each in (name, numbered) for path in folder.rglob(each)]
        assert any(path.stat().st_size for path in found), f"{fence.place}: no {name}"


def files_made(part: Part) -> list[tuple[Fence, str]]:
    """What the commands of its shell blocks were to write, with the block of each."""
    return [
        (fence, found)
        for fence in part.blocks
        if fence.kind == "run" and not any(word.startswith("exit") for word in fence.words)
        for found in OUTPUT.findall(fence.text)
    ]


def failure(part: Part, logs: Path, shell_says: str) -> str:
    """Which block came last, and all that it printed."""
    begun = [f for n, f in enumerate(part.blocks) if (logs / f"{n}").exists()]
    printed = "".join(f"--- {path.name}\n{path.read_text()}" for path in sorted(logs.iterdir()))
    return f"{begun[-1].place if begun else part.page}: failed\n{shell_says}{printed}"


def lines_of(part: Part, ports: Ports, logs: Path) -> list[str]:
    """The script of a part, a piece per block."""
    python = ""
    pieces = []
    for number, fence in enumerate(part.blocks):
        text, log = ports.inward(fence.text), shlex.quote(str(logs / str(number)))
        if "reference" in part.words:
            text = SERVE.sub("cascade serve --max-batch-rows 1", text)
        if fence.kind == "file":
            pieces.append(written(fence, text))
        elif fence.kind == "run" and fence.language in ("python", "py"):
            python = f"{python}\n{text}" if "continues" in fence.words else text
            command = f"{shlex.quote(sys.executable)} -c {shlex.quote(python)}"
            pieces.append(run_of(fence, command, log))
        elif fence.kind == "run":
            pieces.append(run_of(fence, shell_text(fence, text, log), log))
    return pieces


def shell_text(fence: Fence, text: str, log: str) -> str:
    """A shell block, its servers awaited.

    Raises:
        ValueError: no shell can run it.
    """
    if fence.language not in SHELLS:
        raise ValueError(f"{fence.place}: a block of {fence.language} is not run, mark it `file`")
    joined = "\n".join(line.removeprefix("$ ") for line in text.splitlines())
    lines = joined.replace("\\\n", " ").splitlines()
    if "background" in fence.words:
        return server(fence, " ".join(lines), log)
    return "\n".join(
        server(fence, line, f"{log}.server") if SERVER.match(line) else line for line in lines
    )


def server(fence: Fence, command: str, log: str) -> str:
    """A command that goes on, and the wait until it listens.

    Raises:
        ValueError: it would listen at the usual port, where another test may have a server.
    """
    bare = re.sub(r"\s+#.*$", "", command).strip().removesuffix("&")
    if "--listen" not in bare and "--config" not in bare:
        raise ValueError(f"{fence.place}: show --listen or --config, so that the port can be free")
    return f"{bare} >{log} 2>&1 &\nawait $! {log}"


def run_of(fence: Fence, command: str, log: str) -> str:
    """A block's piece of the script."""
    if "background" in fence.words:
        return f"{command}\n"
    codes = [int(word.split()[1]) for word in fence.words if word.startswith("exit ")]
    if codes:
        return (
            f"set +e; ( set -e; {command}\n) >{log} 2>&1; code=$?; set -e\n"
            f"[ $code = {codes[0]} ] || {{ echo exit code $code, not {codes[0]} >&2; exit 91; }}\n"
        )
    return f"{{ {command}\n}} >{log} 2>&1\n"


def written(fence: Fence, text: str) -> str:
    """A file, as the page shows it.

    Raises:
        ValueError: the checkout's file of that name is another one.
    """
    ours = ROOT / fence.value
    if ours.exists() and normal(ours.read_text()) != normal(fence.text):
        raise ValueError(f"{fence.place}: {fence.value} in the checkout is not the same")
    name = shlex.quote(fence.value)
    return f"mkdir -p \"$(dirname {name})\"\nprintf '%s\\n' {shlex.quote(text)} >{name}\n"


def compare(part: Part, ports: Ports, logs: Path) -> None:
    """Every output that the page shows with what the block before it printed."""
    last = ""
    for number, fence in enumerate(part.blocks):
        if fence.kind == "run":
            last = ports.outward((logs / str(number)).read_text())
        elif fence.kind == "output":
            assert matches(fence.text, last, fence.value), (
                f"{fence.place}: shown\n{fence.text}\n--- printed\n{last}"
            )
