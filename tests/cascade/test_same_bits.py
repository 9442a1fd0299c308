"""The first law between machines: what is computed outside the engines is the same to the bit.

Each child process is given another number of threads, other kernels, other instructions or fewer
processors, as a phone beside a server would have them. A change of a hash here is a change of every
picture: both halves of a cut must be of one version then.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping

import numpy as np
import pytest
from numpy._core import _multiarray_umath as numpy_core

from tests.cascade.host_side import PARTS, hashes

HASHES = {
    "draws": "5829553cec2074c00e696e03b2ba67c31eeb2d96c4ebf19c69c6f252b3d47ad8",
    "schedules": "2ea4efeb37da6f1df9dca64251181aec994fd4ebe8ed6bd90da79390a6870c88",
    "conditioning": "eb04953d3f4336adbe5a4c22e8ad5acb3dc97095dd48984d3eb252f190b96726",
    "sampled": "7b14db453ebef71c93d094f738af506ef28b0046668271110d560abf7143dbef",
    "solved": "17991d5577b896057edc0157eeabd3a192995c4248adb7f4d608a48fffd34c45",
    "last_means": "1f6da753e3b73f77955942b27a7865071605e676ced2d59b757e7fed180a19d0",
    "ending_noisy": "891418555892cf0a031a0032bfe64482a98e9eb6aef5fbdefa603fea7a160328",
    "enlarged": "d08d391d56c2f31b4354b0b25ee632575335eb6d49a25a9765b72ddebab37d08",
    "thresholds": "9c5e649699fd787d12d01c5c96459c5cbb495cdfe94666513d17c39734d718d9",
    "codecs": "30f6fe5184d0137e8cb10e45418aeafef195be65fcd10a65d72b1c0c85975ca7",
    "contexts": "1bb32d6ee9d5efef45675179fdd8dae28dc853b7a7fba1e9fa45b71f82d2c7ba",
}

DISPATCHED = [name for name in numpy_core.__cpu_dispatch__ if numpy_core.__cpu_features__[name]]
"""Instruction sets that numpy found here and can do without."""

SETTINGS: dict[str, dict[str, str]] = {
    "one thread": {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    "kernels of 2004": {"OPENBLAS_CORETYPE": "Prescott"},
    "kernels of 2008": {"OPENBLAS_CORETYPE": "Nehalem"},
    "numpy without newer instructions": {"NPY_DISABLE_CPU_FEATURES": " ".join(DISPATCHED)},
    # The C library picks its exp, log, sin and cos by these; libraries that do not know it pass.
    "C library without fused products": {
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-FMA,-FMA_Usable,-FMA4"
    },
}


def hashes_of_a_child(environment: Mapping[str, str], prelude: str = "") -> dict[str, str]:
    """The parts' hashes as another process of other circumstances computes them."""
    code = (
        f"{prelude}\nimport runpy; runpy.run_module('tests.cascade.host_side', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def here() -> dict[str, str]:
    """The hashes in this process."""
    return hashes()


def test_every_part_has_the_bits_written_down(here: dict[str, str]) -> None:
    """On any processor: these hashes were computed once and are part of what is promised."""
    assert {name: here[name] for name in HASHES} == HASHES
    assert set(HASHES) == {part.__name__ for part in PARTS} - {"jpeg"}


@pytest.mark.parametrize("name", SETTINGS)
def test_threads_kernels_and_instructions_change_no_bit(name: str, here: dict[str, str]) -> None:
    """Environment variables make one machine compute as others do."""
    assert hashes_of_a_child(SETTINGS[name]) == here


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="NO AFFINITY on this system")
def test_a_single_processor_changes_no_bit(here: dict[str, str]) -> None:
    """A process that may run on one processor only, before numpy is imported."""
    one = min(os.sched_getaffinity(0))
    assert hashes_of_a_child({}, f"import os; os.sched_setaffinity(0, [{one}])") == here


def test_these_settings_do_change_what_libraries_compute() -> None:
    """The reason for all this: numpy's own matrix products do differ between kernels."""
    code = (
        "import hashlib, numpy as np\n"
        "values = np.random.default_rng(0).standard_normal((300, 300)).astype(np.float32)\n"
        "print(hashlib.sha256((values @ values).tobytes()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **environment},
            capture_output=True,
            check=True,
        ).stdout
        for environment in ({}, SETTINGS["kernels of 2004"])
    }
    if "openblas" not in str(np.show_config(mode="dicts")["Build Dependencies"]["blas"]):
        pytest.skip("numpy HERE HAS ANOTHER BLAS: its kernels cannot be chosen")
    assert len(found) == 2
