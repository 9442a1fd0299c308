"""A third family, for tests alone: a class label to a picture, by two graphs and no network.

The graph `first` paints a ramp whose steepness is the label's number; the graph `turn` mirrors it,
once per turn that was asked for. Its pictures are wider than high, its options and its unit of
progress are its own, and what it makes is drawn from few values.
"""

import hashlib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from onnx import helper

from cascade.boundary import BoundaryValue, Image, Label
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import FORMAT_VERSION, Manifest, write_manifest
from cascade.cost import Cost
from cascade.edit import StageEdit
from cascade.engine import Engine
from cascade.errors import InvalidRequest, ManifestError
from cascade.events import Backend, Event, Progress, StageFinished
from cascade.family import PlanWarning, ReadFile, StartCheck
from cascade.graph_spec import FileEntry, GraphSpec, ParityRecord, TensorSpec
from cascade.precision import Precision
from cascade.request import FamilyOptions, GenerateRequest, Handoff
from cascade.types import Array
from cascade.vectors import NO_VECTORS, VectorUse
from tests.support.tiny_bundle import model

WIDTH, HEIGHT, CLASSES = 12, 8, 5
FIRST, TURN = "first", "turn"
PLANES: tuple[int | str, ...] = ("batch", 3, HEIGHT, WIDTH)


@dataclass(frozen=True, kw_only=True, slots=True)
class RampOptions:
    """How often the ramp is mirrored."""

    turns: int | None = None

    def check(self, path: str) -> None:
        """1 to 9."""
        if self.turns is not None and not 1 <= self.turns <= 9:
            raise InvalidRequest(
                f"{path}.turns: expected 1 to 9, got {self.turns}", field=f"{path}.turns"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class RampSpec:
    """A ramp in the manifest."""

    name: str
    family: Literal["ramp"]
    graphs: Mapping[str, GraphSpec]
    starts_from: tuple[BoundaryValue, ...]
    makes: Image
    turns: int
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """Those of both graphs."""
        return tuple(name for graph in self.graphs.values() for name in graph.all_files)


class RampStage:
    """A ramp at work."""

    def __init__(
        self, spec: RampSpec, engines: Mapping[str, Engine], computed: Backend | None
    ) -> None:
        self._spec, self.engines, self._computed = spec, dict(engines), computed

    @property
    def names(self) -> tuple[str, ...]:
        """One component."""
        return (self._spec.name,)

    def with_engines(self, engines: Mapping[str, Engine]) -> "RampStage":
        """On other engines."""
        return RampStage(self._spec, engines, self._computed)

    def prefetch(self, handoff: Handoff) -> None:
        """Nothing."""

    def run(self, request: GenerateRequest, handoff: Handoff) -> Iterator[Event]:
        """Paint, then turn."""
        begun = time.perf_counter()
        name, turns = self._spec.name, int(request.plans[self._spec.name])
        slope = np.array([handoff.label], np.float32)
        planes = self.engines[FIRST].run({"slope": slope})["planes"]
        for turn in range(1, turns + 1):
            planes = self.engines[TURN].run({"planes": planes})["turned"]
            yield Progress(name, turn, turns, "turn")
        image = np.ascontiguousarray(planes[0].transpose(1, 2, 0)).astype(np.uint8)
        result = Handoff(label=handoff.label, image=image)
        yield StageFinished(name, result, {name: time.perf_counter() - begun}, self._computed)

    def terminate(self) -> None:
        """End the runs."""
        for engine in self.engines.values():
            engine.terminate()

    def close(self) -> None:
        """Release both."""
        for engine in self.engines.values():
            engine.close()


class RampDummyRun:
    """See `cascade.family.DummyRun`."""

    def axes(self, spec: RampSpec, *, batch: int, tokens: int) -> dict[str, int]:
        """Rows."""
        return {"batch": batch}

    def rows(self, spec: RampSpec) -> int:
        """One."""
        return 1

    def inputs(self, spec: RampSpec, role: str, axes: Mapping[str, int]) -> dict[str, Array]:
        """Zeros to fours."""
        return {
            tensor.name: (np.arange(np.prod(shape)).reshape(shape) % CLASSES).astype(tensor.dtype)
            for tensor in spec.graphs[role].inputs
            for shape in [tensor.shape_with(axes)]
        }

    def start(self, spec: RampSpec, *, tokens: int) -> Handoff:
        """The last label."""
        return Handoff(label=CLASSES - 1)

    def options(self, spec: RampSpec) -> FamilyOptions:
        """One turn."""
        return RampOptions(turns=1)


class RampFamily:
    """See `cascade.family.Family`; a plan is the number of turns."""

    spec_type = RampSpec
    options_type = RampOptions
    unit = "turn"
    is_discrete = True
    dummy_run = RampDummyRun()

    def check(self, spec: RampSpec, path: str) -> None:
        """Both graphs are there."""
        if set(spec.graphs) != {FIRST, TURN}:
            raise ManifestError(f"{path}.graphs: expected two", field=f"{path}.graphs")

    def resolve(self, spec: RampSpec, options: FamilyOptions | None) -> int:
        """The turns."""
        if options is not None and not isinstance(options, RampOptions):
            raise InvalidRequest(f"options.{spec.name}: not a ramp's", field=f"options.{spec.name}")
        return spec.turns if options is None or options.turns is None else options.turns

    def with_own_picture(self, spec: RampSpec, plan: int, low: tuple[int, int]) -> int:
        """It starts from none."""
        raise InvalidRequest(f"image: {spec.name} starts from none", field="image")

    def with_size(self, spec: RampSpec, plan: int, made: tuple[int, int]) -> int:
        """Refused: a ramp has one size."""
        raise InvalidRequest(f"size: {spec.name} paints one size", field="size")

    def with_edit(self, spec: RampSpec, plan: int, edit: StageEdit) -> int:
        """Refused: a ramp is painted."""
        raise InvalidRequest(f"edit: {spec.name} paints a ramp of its own", field="edit")

    def why_no_negative(self, spec: RampSpec, plan: int) -> str:
        """No words at all."""
        return "takes no words"

    def vectors(self, spec: RampSpec) -> VectorUse:
        """None."""
        return NO_VECTORS

    def settings(self, spec: RampSpec, plan: int) -> Mapping[str, Any]:
        """The turns."""
        return {"turns": plan}

    def warnings(self, spec: RampSpec, plan: int) -> Sequence[PlanWarning]:
        """None."""
        return ()

    def cost(self, spec: RampSpec, plan: int) -> Cost:
        """One run to paint, and one per turn."""
        return Cost(
            runs={FIRST: 1, TURN: plan},
            units=plan,
            pixels=plan * spec.makes.pixels,
            result_bytes=spec.makes.size_bytes,
        )

    def precisions(self, spec: RampSpec) -> Collection[Precision]:
        """Any."""
        return tuple(Precision)

    def start_check(self, spec: RampSpec, read: ReadFile) -> StartCheck:
        """A label that there is."""

        def check(handoff: Handoff, plan: object) -> None:
            if handoff.label is None or not 0 <= handoff.label < CLASSES:
                raise InvalidRequest(f"label: expected 0 to {CLASSES - 1}", field="label")

        return check

    def open(
        self,
        spec: RampSpec,
        position: int,
        engines: Mapping[str, Engine],
        read: ReadFile,
        computed: Backend | None,
    ) -> RampStage:
        """The ramp."""
        return RampStage(spec, engines, computed)

    def time_rows(self, spec: RampSpec) -> tuple[str, ...]:
        """Itself."""
        return (spec.name,)

    def describe(self, spec: RampSpec) -> list[str]:
        """One line."""
        return [f"ramp     {spec.turns} turns"]


def expected_ramp(label: int, turns: int) -> Array:
    """The picture `[HEIGHT, WIDTH, 3]` uint8 of a label after so many turns, by hand."""
    row = label * np.arange(WIDTH, dtype=np.uint8)
    row = row[::-1] if turns % 2 else row
    return np.tile(row[None, :, None], (HEIGHT, 1, 3))


def ramp_graphs() -> tuple[dict[str, bytes], dict[str, GraphSpec]]:
    """The two files and their entries."""
    slope = TensorSpec(name="slope", dtype="float32", shape=("batch",))
    planes = TensorSpec(name="planes", dtype="float32", shape=PLANES)
    turned = TensorSpec(name="turned", dtype="float32", shape=PLANES)
    ramp = np.broadcast_to(np.arange(WIDTH, dtype=np.float32), (1, 3, HEIGHT, WIDTH)).copy()
    paint = [
        helper.make_node("Reshape", ["slope", "column"], ["steep"]),
        helper.make_node("Mul", ["steep", "ramp"], ["planes"]),
    ]
    column = np.array([-1, 1, 1, 1], np.int64)
    order = np.arange(WIDTH, dtype=np.int64)[::-1].copy()
    turn = [helper.make_node("Gather", ["planes", "order"], ["turned"], axis=3)]
    files = {
        "first.onnx": model(paint, [slope], [planes], {"ramp": ramp, "column": column}),
        "turn.onnx": model(turn, [planes], [turned], {"order": order}),
    }
    exact = ParityRecord(max_abs_error=0.0, psnr_db=200.0, tolerance_abs=0.0)
    sides = {FIRST: (slope, planes), TURN: (planes, turned)}
    graphs = {
        role: GraphSpec(
            file=f"{role}.onnx",
            inputs=(taken,),
            outputs=(made,),
            storage="float32",
            parity=exact,
        )
        for role, (taken, made) in sides.items()
    }
    return files, graphs


def write_ramp_bundle(folder: Path) -> Bundle:
    """A bundle with the one component `ramp`; the family must be in the table."""
    folder.mkdir(parents=True)
    files, graphs = ramp_graphs()
    spec = RampSpec(
        name="ramp",
        family="ramp",
        graphs=graphs,
        starts_from=(Label(classes=CLASSES),),
        makes=Image(width=WIDTH, height=HEIGHT),
        turns=3,
    )
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name="ramps",
        licence="Apache-2.0",
        components=(spec,),
        files=tuple(
            FileEntry(name=n, sha256=hashlib.sha256(d).hexdigest(), size_bytes=len(d))
            for n, d in files.items()
        ),
    )
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "manifest.json").write_text(write_manifest(manifest))
    return open_bundle(folder)
