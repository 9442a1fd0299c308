"""A folder like a checkout, and what a document's command takes for granted there.

The bundle in it is a tiny one under the reference bundle's name, unless a command asks for the true
one. Knows what to put where; not which command needs what.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cascade.bundle.bundle import open_bundle
from cascade.bundle.default_bundle import REFERENCE, VARIABLE
from cascade.commands.cli import main
from tests.documents.fences import ROOT
from tests.support.synthetic_quality import figures
from tests.support.tiny_bundle import write_tiny_bundle

WORDS = ("a", "red", "circle")
SKIPPED = shutil.ignore_patterns("__pycache__", "node_modules")
SHORT_LIVED = "-Xmx512M -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Of a compiler in a Java machine that compiles one file: half the processor time."""


def make_workspace(folder: Path) -> None:
    """What every command may find."""
    write_tiny_bundle(folder / REFERENCE, int8=True)
    for name in ("examples", "deploy", "protos", "docs/bench"):
        shutil.copytree(ROOT / name, folder / name, ignore=SKIPPED)


def surroundings(folder: Path) -> dict[str, str]:
    """Environment of a command: ours first on the PATH, a cache of its own, no bundle chosen."""
    kept = {k: v for k, v in os.environ.items() if k not in (VARIABLE, "CASCADE_TOKEN")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    own = {"XDG_CACHE_HOME": str(folder / "cache"), "JAVA_OPTS": SHORT_LIVED}
    return {**kept, "PATH": path, **own}


def reference_bundle(folder: Path) -> None:
    """The true bundle instead of the tiny one."""
    shutil.rmtree(folder / REFERENCE)
    shutil.copytree(ROOT / REFERENCE, folder / REFERENCE)


def pixel_bundle(folder: Path) -> None:
    """The bundle of pixels by groups, beside the tiny one."""
    name = "emoji-pixels-1"
    shutil.copytree(ROOT / "bundles" / name, folder / "bundles" / name)


def quality(folder: Path) -> None:
    """Figures of the bundle, as `benchmarks.quality` writes them."""
    (folder / "quality").mkdir()
    text = json.dumps(figures(open_bundle(folder / REFERENCE)))
    (folder / "quality" / "quality.json").write_text(text)


def key(folder: Path) -> None:
    """A key pair."""
    assert main(["sign", "--make-key", str(folder / "release.pem")]) == 0


def signature(folder: Path) -> None:
    """The bundle, signed with it."""
    arguments = ["sign", str(folder / REFERENCE), "--key", str(folder / "release.pem")]
    assert main(arguments) == 0


def apple(folder: Path) -> None:
    """A picture of ours."""
    done = shell('cascade generate "a red apple" -o apple.png', folder)
    assert done.returncode == 0, done.stderr


def data(folder: Path) -> None:
    """A prepared data file."""
    from tests.support.synthetic_data import write_made_up_data

    write_made_up_data(folder / "data" / "emoji.npz")


def checkpoints(folder: Path) -> None:
    """A checkpoint of every stage, of untrained networks of the true sizes."""
    from stages.networks.efficient_unet import EfficientUNet
    from stages.reference import PRESETS
    from stages.training.checkpoint import save_checkpoint

    for name, preset in PRESETS.items():
        state = EfficientUNet(preset.unet).state_dict()
        save_checkpoint(folder / "checkpoints" / name, {"ema": state}, {"guided": 0.0})


def pipelines(folder: Path) -> None:
    """Two pipelines of diffusers' classes, in miniature."""
    from tests.support import tiny_if

    size = tiny_if.SMALLEST
    base = tiny_if.base_pipeline(folder / "words", size // 2)
    upscaler = tiny_if.upscaler_pipeline(size)
    base.save_pretrained(folder / "IF-I-M")
    upscaler.save_pretrained(folder / "IF-II-M")


def package(folder: Path) -> None:
    """A user's own module."""
    (folder / "my_package").mkdir()
    text = "from examples.my_cascade import describe as factory\n"
    (folder / "my_package" / "my_module.py").write_text(text)


def circles(folder: Path) -> None:
    """A bundle under the name that the example exports to."""
    write_tiny_bundle(folder / "circles")


def npm_packages(folder: Path) -> None:
    """What the JavaScript client needs, in npm's cache; skips where no registry answers."""
    from tests.examples.npm import install

    install(folder / "npm-cached")


def grpc_java(_folder: Path) -> None:
    """Debian's plugin and libraries of gRPC for Java; skips where they are not installed."""
    import pytest

    needed = ("bin/grpc_java_plugin", "share/java/grpc-netty.jar", "share/java/netty-codec.jar")
    missing = [name for name in needed if not Path("/usr", name).exists()]
    if missing:
        pytest.skip(f"needs Debian's packages of gRPC for Java: no /usr/{missing[0]}")


PREPARATIONS: Mapping[str, Callable[[Path], None]] = {
    "reference bundle": reference_bundle,
    "pixel bundle": pixel_bundle,
    "quality": quality,
    "key": key,
    "signature": signature,
    "apple": apple,
    "data": data,
    "checkpoints": checkpoints,
    "pipelines": pipelines,
    "package": package,
    "circles": circles,
    "npm packages": npm_packages,
    "grpc-java": grpc_java,
}


def shell(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """A command as a user's shell runs it."""
    return subprocess.run(
        ["/bin/sh", "-c", command], cwd=folder, env=surroundings(folder), capture_output=True,
        text=True, timeout=300, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@contextmanager
def serving(command: str, folder: Path) -> Iterator[str]:
    """A server from its command line; gives its address, and wants a graceful end of it."""
    child = subprocess.Popen(
        ["/bin/sh", "-c", f"exec {command}"], cwd=folder, env=surroundings(folder),
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stderr is not None
    try:
        lines = []
        for line in child.stderr:
            lines.append(line)
            if '"listening"' in line:
                break
        else:
            raise AssertionError("".join(lines))
        yield json.loads(lines[-1])["address"]
        child.send_signal(signal.SIGTERM)
        child.stderr.read()
        assert child.wait(600) == 0
    finally:
        child.kill()
        child.wait()
        child.stderr.close()
