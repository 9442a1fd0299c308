"""Who may load what: the light packages in a fresh interpreter, module by module."""

import importlib.util
import pkgutil
import subprocess
import sys

import pytest

HEAVY = ("torch", "onnx", "stages", "export")
NETWORK = ("grpc", "google.protobuf", "protos")
PACKAGES = ("runtime_client", "runtime_server")


EXTRAS = {
    "cascade.engines.openvino": ("openvino",),
    "cascade.engines.openvino_library": ("openvino",),
    "cascade.engines.openvino_shapes": ("openvino",),
    "cascade.engines.trt": ("pycuda", "tensorrt"),
    "cascade.engines.trt_build": ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"),
    "cascade.engines.trt_library": ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"),
    "runtime_server.web.proxy": ("envoy",),
    "runtime_server.http_door.listener": ("uvicorn",),
    "runtime_server.executors.ray_cluster": ("ray",),
}
"""Modules that need one of these packages, and whose import says so where there is none."""


def can_import(module: str) -> bool:
    """Whether what a module needs beyond the light packages is installed."""
    packages = EXTRAS.get(module, ("numpy",))
    if module == "cascade.engines.trt":
        return all(importlib.util.find_spec(package) for package in packages)
    return any(importlib.util.find_spec(package) for package in packages)


def modules(package: str) -> list[str]:
    """A package and every module in it, without importing any."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    names = [package]
    for found in pkgutil.iter_modules(spec.submodule_search_locations, f"{package}."):
        names += modules(found.name) if found.ispkg else [found.name]
    return names


def loaded(statements: str, suspects: tuple[str, ...]) -> list[str]:
    """Which of the suspects a fresh interpreter has loaded after those statements."""
    code = f"{statements}\nimport sys\nprint(*(n for n in {suspects} if n in sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.split()


def of_command(words: list[str], suspects: tuple[str, ...]) -> list[str]:
    """Which of the suspects `cascade WORDS` has loaded at its end; what it prints is dropped."""
    statements = (
        "import contextlib, io\n"
        "from cascade.commands.cli import run_command\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        f"    run_command({words}, lambda: None)\n"
    )
    return loaded(statements, suspects)


def test_the_check_finds_what_is_loaded() -> None:
    """The check itself can fail: a module that is imported is reported."""
    assert loaded("import cascade.numerics.noise", ("numpy", "torch")) == ["numpy"]


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("cascade", (*HEAVY, *NETWORK, "runtime_client", "runtime_server")),
        ("runtime_client", (*HEAVY, "runtime_server")),
        ("runtime_server", (*HEAVY, "runtime_client")),
    ],
)
def test_light_packages_load_nothing_heavy(package: str, forbidden: tuple[str, ...]) -> None:
    """Importing every module of a package loads neither torch nor the other half."""
    names = [name for name in modules(package) if not name.endswith("__main__")]
    names = [name for name in names if can_import(name)]
    assert len(names) > 3
    assert loaded(f"import {', '.join(names)}", forbidden) == []


def test_the_command_line_costs_nothing_heavy() -> None:
    """Registering every subcommand, those for training too, loads neither torch nor an engine."""
    statements = "from cascade.commands.cli import build_parser; build_parser()"
    assert loaded(statements, ("torch", "onnx", "onnxruntime", "openvino")) == []


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["generat"], []])
def test_help_loads_no_package(words: list[str]) -> None:
    """Neither numpy nor the package of any subcommand: names and what each does are a table."""
    suspects = ("numpy", "PIL", "cryptography", "importlib.metadata", *HEAVY, *NETWORK, *PACKAGES)
    assert of_command(words, suspects) == []


def test_a_subcommand_loads_no_other_package() -> None:
    """`generate` builds none of `serve`'s flags, and `serve` none of `generate`'s."""
    others = ("runtime_server", "stages", "export", "cascade.commands.tune")
    assert of_command(["generate", "--help"], (*others, "runtime_client")) == ["runtime_client"]
    others = ("runtime_client", "stages", "export", "cascade.commands.tune")
    assert of_command(["serve", "--help"], (*others, "runtime_server")) == ["runtime_server"]


def test_an_engine_is_loaded_only_when_it_is_chosen() -> None:
    """Choosing, and knowing what is installed, loads none; opening loads the chosen one."""
    choose = (
        "from cascade.tuning.plan import plan_here\n"
        "from cascade.engines.factory import *\n"
        "from cascade.precision import Precision\n"
        "installed_kinds()\n"
    )
    engines = ("onnxruntime", "openvino", "tensorrt", "pycuda")
    assert loaded(choose, engines) == []
    attempt = (
        "import contextlib, cascade.errors\n"
        "with contextlib.suppress(cascade.errors.EngineError):\n"
        "    open_engine(b'', EngineChoice(EngineKind.ORT, Precision.FP32))\n"
    )
    assert loaded(choose + attempt, engines) == ["onnxruntime"]
