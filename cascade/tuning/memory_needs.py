"""What a component takes in memory on this machine, told before it is opened.

Weights are counted from the bundle: how many bytes lie there, and what the engine makes of them.
What one run takes beside them is an estimate from the size of its picture. Refuses what cannot fit;
opens no engine.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cascade.boundary import Image, Tensor, value_of
from cascade.bundle.bundle import Bundle
from cascade.engines.factory import EngineChoice
from cascade.engines.kinds import EngineKind
from cascade.errors import EngineError
from cascade.families import family_of
from cascade.family import ComponentSpec
from cascade.graph_spec import GraphSpec
from cascade.precision import BLOCKS, Precision
from cascade.system.memory_limits import Memory, memory_here
from cascade.tuning.plan import EnginePlan, file_precisions
from cascade.weights.source import source_bytes

WIDENED = {"float32": 1, "float16": 2, "int8": 4}
"""Bytes that an engine of CPUs holds per byte in the file: it computes in float32."""
COPIES = {EngineKind.OPENVINO: 2}
"""OpenVINO holds a weight as it lay in the graph and as its kernels want it: 5.3 GB for 2.7."""
VALUES_PER_PIXEL = 64
"""Float32 values that a stage's run holds per pixel of its picture: one level of a U-Net's maps.
`sr1024` of the reference cascade takes 196 MB for a picture, which is 49."""


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes that one component takes.

    Attributes:
        component: its name.
        precision: that it is opened in.
        weights: for as long as it is open.
        run: beside them while it runs; an estimate, 0 where it makes no picture.
    """

    component: str
    precision: Precision
    weights: int
    run: int

    @property
    def text(self) -> str:
        """In words, with what is an estimate."""
        run = f", a run about {in_mb(self.run)} (estimated)" if self.run else ""
        return f"{self.precision}: weights {in_mb(self.weights)}{run}"


def memory_needs(bundle: Bundle, component: ComponentSpec) -> list[MemoryNeed]:
    """What a component takes in ONNX Runtime on a CPU, in every precision with a file for it."""
    found = [
        memory_need(bundle, component, EngineChoice(EngineKind.ORT, precision))
        for precision in file_precisions(component, EngineKind.ORT)
    ]
    # Nobody opens what was looked at here.
    bundle.ahead.clear()
    return found


def memory_need(bundle: Bundle, component: ComponentSpec, choice: EngineChoice) -> MemoryNeed:
    """What a component takes as a choice opens it.

    Args:
        bundle: of the component.
        component: its entry.
        choice: engine and precision.
    """
    weights = sum(
        weights_bytes(bundle, graph, choice.precision) for graph in component.graphs.values()
    )
    made = value_of(Image, (component.makes,)) or value_of(Tensor, (component.makes,))
    pixels = made.width * made.height if made is not None else 0
    rows = family_of(component).dummy_run.rows(component)
    return MemoryNeed(
        component.name,
        choice.precision,
        weights * COPIES.get(choice.kind, 1),
        4 * VALUES_PER_PIXEL * pixels * rows,
    )


def weights_bytes(bundle: Bundle, graph: GraphSpec, precision: Precision) -> int:
    """What the weights of one graph take once an engine of CPUs has opened it.

    Raises:
        ManifestError: a graph with its weights beside it is not what the manifest says.
    """
    name = graph.file_for(precision)
    if graph.weights is not None and bundle.holds(name, graph.weights):
        return source_bytes(bundle.read_ahead(graph, name))
    if graph.weights is not None:
        # Of a sparse bundle: the file has the other precisions' weights too.
        return bundle.entry(graph.weights).size_bytes
    size = bundle.entry(graph.file).size_bytes
    if name == graph.file:
        return size * WIDENED[graph.storage]
    if precision in BLOCKS and bundle.holds(name, graph.file):
        # Without the matrices of the float32 file, which are most of it.
        return source_bytes(bundle.read_ahead(graph, name))
    # A variant computes with its own weights, those it borrows as they lie.
    return bundle.entry(name).size_bytes + size


def found_bytes(bundle: Bundle, component: ComponentSpec, choice: EngineChoice) -> int:
    """Bytes of a component's weights that its engine reads where another process has them."""
    files = {graph.weights for graph in component.graphs.values()} - {None}
    if choice.kind is not EngineKind.ORT:
        return 0
    entries = [bundle.entry(str(name)) for name in files]
    return sum(bundle.buffers.of(bundle.folder / e.name, e).found_bytes for e in entries)


def check_fits(
    bundle: Bundle, positions: Iterable[int], plan: EnginePlan, memory: Memory | None = None
) -> None:
    """Refuse components whose weights are more than the memory that is left.

    Args:
        bundle: an opened bundle.
        positions: of the components that are to be opened.
        plan: how.
        memory: None looks.

    Raises:
        EngineError: with the largest one's number, what is available, and what may help.
        ManifestError: a graph with its weights beside it is not what the manifest says.
    """
    memory = memory_here() if memory is None else memory
    if not memory.available:
        return
    components = [bundle.manifest.components[position] for position in positions]
    on_cpu = [c for c in components if plan.device(c.name) == "CPU"]
    needs = [memory_need(bundle, component, plan.of(component.name)) for component in on_cpu]
    wanted = sum(
        max(0, need.weights - found_bytes(bundle, component, plan.of(component.name)))
        for need, component in zip(needs, on_cpu, strict=True)
    )
    if wanted <= memory.available:
        return
    largest = max(needs, key=lambda need: need.weights)
    limit = f" of a limit of {in_mb(memory.limit)}" if memory.limit else ""
    raise EngineError(
        f"memory: the weights of {largest.component} in {largest.precision} take "
        f"{in_mb(largest.weights)}, all that is to be opened {in_mb(wanted)}, and "
        f"{in_mb(memory.available)}{limit} are available: run it elsewhere (--cut), or in a "
        "precision with a smaller file (`cascade inspect` lists what each takes)",
        field="memory",
    )


def in_mb(size_bytes: int) -> str:
    """`2,684 MB`; below ten with one digit more."""
    size = size_bytes / 1e6
    return f"{size:,.0f} MB" if size >= 10 else f"{size:.1f} MB"
