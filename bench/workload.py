"""What is asked for: prompts with a seed each, from a file that can be published.

Knows text; no system.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cascade.errors import InvalidRequest
from cascade.request import MAX_SEED, check_prompt
from cascade.system.bounded_files import read_setting

BUILT_IN = Path(__file__).with_name("prompts.txt")
MAX_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One picture to be made."""

    prompt: str
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """A list of prompts that goes on for ever."""

    prompts: tuple[str, ...]
    seeds: tuple[int | None, ...]
    """Of each prompt; None gives every request a seed of its own."""
    first_seed: int
    source: str
    """Name of the file."""
    sha256: str
    """Of its bytes."""

    def item(self, number: int) -> WorkItem:
        """The request of that number, from 0: no two are equal unless the file says the seeds."""
        at = number % len(self.prompts)
        seed = self.seeds[at]
        return WorkItem(self.prompts[at], self.first_seed + number if seed is None else seed)


def read_workload(path: Path | None, first_seed: int = 0) -> Workload:
    """A workload from a file: a prompt per line, and after a tab its seed where it has one.

    Args:
        path: empty lines and those that begin with `#` are left out; None is the built-in list.
        first_seed: of the first request without a seed of its own.

    Raises:
        InvalidRequest: the file cannot be read, or a line is no prompt.
    """
    path = path or BUILT_IN
    data = read_setting(path, "prompts", MAX_BYTES)
    prompts: list[str] = []
    seeds: list[int | None] = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        prompt, _, seed = line.partition("\t")
        check_prompt(prompt)
        prompts.append(prompt)
        seeds.append(parse_seed(seed, number) if seed else None)
    if not prompts:
        raise InvalidRequest(f"prompts: {path.name} holds none", field="prompts")
    return Workload(
        prompts=tuple(prompts),
        seeds=tuple(seeds),
        first_seed=first_seed,
        source=path.name,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def parse_seed(text: str, line: int) -> int:
    """A seed of a line.

    Raises:
        InvalidRequest: it is no number from 0 to 2^64 - 1.
    """
    if not text.isascii() or not text.isdigit() or int(text) > MAX_SEED:
        raise InvalidRequest(
            f"prompts: line {line}: expected a seed from 0 to 2^64 - 1 after the tab, got "
            f"{text[:40]!r}",
            field="prompts",
        )
    return int(text)
