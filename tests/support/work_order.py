"""In which order two workers take the test files: what takes long goes first, and in small pieces.

pytest-xdist gives a worker a file at a time, files with many tests first. The last ones would be
those with few and long tests, and one worker would wait minutes for the other. Knows seconds of
files as they were measured; an order that is out of date costs time and nothing else.
"""

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

LONGEST = (
    "tests/export/test_foreign_if.py",
    "tests/documents/test_pages.py",
    "tests/export",
    "tests/export/test_networks_diffusers.py",
    "tests/export/test_pixel_export.py",
    "tests/export/test_foreign_torch.py",
)
"""Files whose tests take half a minute of processor time and more, longest first."""

APART = frozenset(
    {
        "tests/documents/test_pages.py",
        "tests/export/test_networks_attention.py",
        "tests/export/test_networks_diffusers.py",
        "tests/export/test_networks_transformers.py",
    }
)
"""Files whose tests share nothing that takes long to make: each of them may go to either worker."""

TOGETHER = dict.fromkeys(
    (
        "tests/export/test_bundle_writer.py",
        "tests/export/test_exact_storage.py",
        "tests/export/test_gpu_form.py",
        "tests/export/test_graphs.py",
        "tests/export/test_parity.py",
        "tests/export/test_pass_pipeline.py",
        "tests/export/test_quantize_variant.py",
        "tests/export/test_released_weights.py",
    ),
    "tests/export",
)
"""Files that share networks which take long to export: one worker has all, and exports once."""


def unit_of(nodeid: str) -> str:
    """What goes to one worker as a whole: files together, a file, or a test alone."""
    file, _, _ = nodeid.partition("::")
    return nodeid if file in APART else TOGETHER.get(file, file)


def place(unit: str) -> int:
    """The place of a unit in the order."""
    file, _, _ = unit.partition("::")
    return LONGEST.index(file) if file in LONGEST else len(LONGEST)


class LongestFirst(LoadFileScheduling):
    """A unit at a time, the longest first; among equals, what has the most tests."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        self.workqueue.move_to_end(min(self.workqueue, key=place), last=False)
        super()._assign_work_unit(node)
