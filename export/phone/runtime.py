"""What every target of `cascade export-phone` is: a converter, and perhaps a runtime as well.

Knows no framework.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from cascade.types import Array
from export.phone.subject import PhoneGraph


class PhoneFile(Protocol):
    """One written file, opened by the runtime that phones open it with."""

    def run(self, inputs: Mapping[str, Array]) -> Sequence[Array]:
        """Answers in the order of the subject's outputs, of inputs by name."""
        ...


class Target(Protocol):
    """One framework."""

    @property
    def suffix(self) -> str:
        """Of its files, with the dot."""
        ...

    @property
    def reads_graphs(self) -> bool:
        """Whether it converts the bundle's graphs, and needs no network."""
        ...

    @property
    def version(self) -> str:
        """Converter and runtime with their versions, for people."""
        ...

    def convert(self, subject: PhoneGraph, path: Path) -> None:
        """Write one file or folder.

        Raises:
            UnsupportedModel: the converter refuses the network.
        """
        ...

    def check(self, subject: PhoneGraph, path: Path) -> None:
        """Refuse a program that is not what was asked for, as far as it says so itself.

        Raises:
            ParityError: it is not.
        """
        ...

    def input_dtypes(self, subject: PhoneGraph, path: Path) -> Mapping[str, str]:
        """By input, the dtype that the written file takes; a bundle's `int64` may be `int32`."""
        ...

    def open(self, subject: PhoneGraph, path: Path) -> PhoneFile | None:
        """The file in its runtime; None where that runtime does not exist on this machine."""
        ...
