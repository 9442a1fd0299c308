"""Ways to run one stage's network, as data.

A family is a row of the table; where it can be set up in several ways, all of them race and the
best one stands for it. Knows what there is; not how a way is opened, timed or compared.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cascade.engines.kinds import EngineKind
from cascade.precision import Precision
from cascade.types import Array

Run = Callable[[], Array]
"""One evaluation of the network; its output."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One stage as every entry sees it."""

    stage: str
    checkpoint: Path | None
    """Folder of its network; None for the preset's with random weights."""
    storage: str
    """What the bundle rounded the weights to."""
    inputs: dict[str, Array]
    threads: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchWay:
    """The torch module."""

    bf16: bool = False
    channels_last: bool = False
    compiled: Mapping[str, bool] | None = None
    """Inductor's options; None runs eagerly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineWay:
    """An exported graph in an engine."""

    graph: Path
    kind: EngineKind
    precision: Precision


@dataclass(frozen=True, kw_only=True, slots=True)
class RaceEntry:
    """One way to run the stage."""

    family: str
    setting: str
    way: TorchWay | EngineWay
    same_weights: bool = True
    """Whether its output may be compared with torch's."""

    @property
    def name(self) -> str:
        """Family and setting."""
        return f"{self.family} [{self.setting}]" if self.setting else self.family


CHANNELS_LAST = "freezing, channels_last"
COMPILED: Mapping[str, Mapping[str, bool]] = {
    "freezing": {"freezing": True},
    CHANNELS_LAST: {"freezing": True},
    f"{CHANNELS_LAST}, max-autotune": {"freezing": True, "max_autotune": True},
    f"{CHANNELS_LAST}, cpp wrapper": {"freezing": True, "cpp_wrapper": True},
}
"""Inductor's options that race, by what the table calls them; the name says the layout too."""


def torch_contestants() -> list[RaceEntry]:
    """Every way to run the torch module."""
    found = [
        RaceEntry(family="torch eager fp32", setting="", way=TorchWay()),
        RaceEntry(
            family="torch eager bf16 channels_last",
            setting="",
            way=TorchWay(bf16=True, channels_last=True),
        ),
    ]
    for precision in ("fp32", "bf16"):
        found += [
            RaceEntry(
                family=f"torch.compile {precision}",
                setting=setting,
                way=TorchWay(
                    bf16=precision == "bf16",
                    channels_last=setting.startswith(CHANNELS_LAST),
                    compiled=options,
                ),
            )
            for setting, options in COMPILED.items()
            # The other layout is slower by far where convolutions compute in bfloat16.
            if precision == "fp32" or setting.startswith(CHANNELS_LAST)
        ]
    return found


def engine_contestants(
    plain: Path, ours: Mapping[Precision, Path], *, same_weights: bool
) -> list[RaceEntry]:
    """Every way to run the exported graphs.

    Args:
        plain: the graph as torch exports it, of the very network that torch runs.
        ours: the bundle's files by precision.
        same_weights: whether the bundle's weights are those of that network.
    """
    ort, openvino = EngineKind.ORT, EngineKind.OPENVINO
    fp32, bf16, int8 = Precision.FP32, Precision.BF16, Precision.INT8
    ways = [
        ("plain export, ONNX Runtime", plain, ort, fp32, True),
        ("plain export, OpenVINO f32", plain, openvino, fp32, True),
        ("plain export, OpenVINO bf16", plain, openvino, bf16, True),
        ("ours fp32, ONNX Runtime", ours[fp32], ort, fp32, same_weights),
        ("ours fp32, OpenVINO", ours[fp32], openvino, fp32, same_weights),
        ("ours bf16, OpenVINO", ours[fp32], openvino, bf16, same_weights),
    ]
    found = [
        RaceEntry(
            family=family,
            setting="",
            way=EngineWay(graph=graph, kind=kind, precision=precision),
            same_weights=same,
        )
        for family, graph, kind, precision, same in ways
    ]
    if int8 in ours:
        found += [
            RaceEntry(
                family="ours int8",
                setting=kind.value,
                way=EngineWay(graph=ours[int8], kind=kind, precision=int8),
                same_weights=same_weights,
            )
            for kind in (ort, openvino)
        ]
    return found
