"""What every test session shares: without torch, the packages that need it are left out."""

import gc
import os
import shutil
import signal
from importlib.util import find_spec
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from cascade.engines.cuda_driver import find_device
from cascade.tuning.hints import OFF, VARIABLE

WITHOUT_TORCH = find_spec("torch") is None
collect_ignore = ["stages", "export"] if WITHOUT_TORCH else []


NO_GPU = "needs an NVIDIA card"
NO_TENSORRT = f"{NO_GPU}, tensorrt and pycuda"


def pytest_configure(config: pytest.Config) -> None:
    """An empty cache, children that mind Ctrl-C and hang-ups, examples that may take their time.

    What was tuned on this machine must decide no test, nor be left behind. What a shell starts in
    the background ignores SIGINT, and what nohup starts SIGHUP, as do their children: tests that
    send one would wait. A handler is not inherited by what is executed, so that an empty one
    still ignores the hang-up here and leaves children the default.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
    # No `TemporaryDirectory`: at the end of a forked child that would remove its parent's folder.
    cache = mkdtemp(prefix="cascade-cache-")
    config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))
    os.environ["XDG_CACHE_HOME"] = cache
    # What is said of this machine is no part of what a command prints; those tests turn it on.
    os.environ[VARIABLE] = OFF
    # Hypothesis fails what takes 200 ms, which on a busy machine is anything.
    settings.register_profile(
        "unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of a GPU where there is none, and of TensorRT where it is not installed."""
    library = any(find_spec(name) for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"))
    card = find_device() is not None
    for item in items:
        marker = item.get_closest_marker("gpu")
        if marker is None:
            continue
        if marker.kwargs.get("needs") == "tensorrt":
            if not (card and library and find_spec("pycuda")):
                item.add_marker(pytest.mark.skip(reason=NO_TENSORRT))
        elif not card:
            item.add_marker(pytest.mark.skip(reason=NO_GPU))


def pytest_collection_finish() -> None:
    """Collect garbage seldom, and never look through what is loaded by now.

    That lives as long as the process; an export of torch makes and drops very many objects, and
    two fifths of its time went into looking for cycles among them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """By files, in an order of ours."""
    from tests.support.work_order import LongestFirst

    return LongestFirst(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what was not tested."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if NO_GPU in str(r.longrepr)]
    if skipped:
        card = find_device()
        found = f"the card is {card.name}" if card else "there is no card"
        terminalreporter.section("GPU")
        terminalreporter.line(
            f"{len(skipped)} TESTS OF THE GPU WERE SKIPPED: {NO_TENSORRT}; {found}. "
            f"The TensorRT engine's run was not tested."
        )


def pytest_report_header(config: pytest.Config) -> str:
    """Say which kind of session this is."""
    return "torch: absent, its tests left out" if WITHOUT_TORCH else "torch: here"
