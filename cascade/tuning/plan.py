"""From what somebody asks for to how each component is run on this machine.

A precision changes pictures, so its meaning depends on the bundle alone and is the same on both
sides of the wire; an engine does not (beyond rounding), so each side takes its own. Pure but for
`plan_here`, which looks at this machine. Opens no engine and measures nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cascade.boundary import Image, value_of
from cascade.bundle.bundle import Bundle
from cascade.bundle.gpu_graph import gpu_graph
from cascade.bundle.manifest import Manifest
from cascade.engines.factory import EngineChoice
from cascade.engines.gpus import GPU_KINDS, NO_GPUS, Gpus, device_of, gpus_here, ranked
from cascade.engines.kinds import (
    BLOCK_KINDS,
    GPU_GRAPH_KINDS,
    OWN_PRECISIONS,
    PROCESSOR_HALVES,
    EngineKind,
    installed_kinds,
    reads_files,
)
from cascade.engines.triton_config import model_name
from cascade.errors import InvalidRequest
from cascade.families import check_precision, cost_of, family_of
from cascade.family import ComponentSpec
from cascade.graph_spec import NET
from cascade.precision import FROM_FILES, Precision
from cascade.system.processor import Processor
from cascade.system.user_cache import user_cache_folder
from cascade.tuning.dummy_inputs import default_shapes
from cascade.tuning.options import EngineOptions
from cascade.tuning.ranking import lossy_precisions, preferred, request_ms
from cascade.tuning.records import Tuning, read_tuning, tuning_key
from cascade.weights.loose import loosened
from cascade.weights.source import GraphSource

Pair = tuple[EngineKind, Precision]


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """How every component of a bundle is run.

    Attributes:
        choices: by component; those not named run in float32 in ONNX Runtime.
        cache: where engines keep what they compiled; None keeps nothing.
        threads: of the components not named.
        gpus: what this machine has for engines of GPUs.
        untuned: components whose engine `auto` chose without a measurement.
        named: components whose engine was asked for by name.
    """

    choices: Mapping[str, EngineChoice] = field(default_factory=dict)
    cache: Path | None = None
    threads: int = 0
    gpus: Gpus = field(default=NO_GPUS, compare=False)
    untuned: tuple[str, ...] = field(default=(), compare=False)
    named: tuple[str, ...] = field(default=(), compare=False)

    def of(self, component: str) -> EngineChoice:
        """How one component is run."""
        unnamed = EngineChoice(EngineKind.ORT, Precision.FP32, self.threads)
        return self.choices.get(component, unnamed)

    def device(self, component: str) -> str:
        """Where one component is computed: `CPU`, the card's name, or `Triton`."""
        return device_of(self.of(component).kind, self.gpus)

    @property
    def warning(self) -> str:
        """What whoever runs this should know of engines that nobody measured; empty for nothing."""
        if not self.untuned:
            return ""
        lost = "".join(f"{kind} is installed and not used: {why}; " for kind, why in self.unused)
        return (
            f"{lost}nobody measured which engine is fastest here for {', '.join(self.untuned)}: "
            "run `cascade tune`"
        )

    @property
    def has_gpu_engines(self) -> bool:
        """Whether an engine for cards is installed here, usable or not."""
        return self.gpus != NO_GPUS

    @property
    def unused(self) -> tuple[tuple[EngineKind, str], ...]:
        """Engines of GPUs that cannot be used here, and why."""
        return tuple(self.gpus.refused.items())

    @property
    def texts(self) -> tuple[str, str]:
        """The named components as the command line's `--engine` and `--precision`."""
        return (
            ",".join(f"{name}={engine_word(choice)}" for name, choice in self.choices.items()),
            ",".join(f"{name}={choice.precision}" for name, choice in self.choices.items()),
        )


@dataclass(frozen=True, slots=True)
class Machine:
    """What a choice depends on besides bundle and engine_options."""

    kinds: tuple[EngineKind, ...]
    processor: Processor
    tuning: Tuning | None
    gpus: Gpus = NO_GPUS


def engine_word(choice: EngineChoice) -> str:
    """An engine as the command line names it."""
    return f"{choice.kind}:{choice.address}" if choice.address else choice.kind.value


def plan_here(
    manifest: Manifest, engine_options: EngineOptions, positions: Sequence[int] | None = None
) -> EnginePlan:
    """How this machine runs a bundle, given what was asked for.

    Takes a few milliseconds; some seconds once per process where a card and an engine for it are
    here and nobody tuned: the engine is tried before it is relied on.

    Args:
        manifest: of the bundle.
        engine_options: what was asked for.
        positions: the components to plan for; all when None. The others may run elsewhere, on
            engines that this machine does not have.

    Raises:
        InvalidRequest: the options name a component that the bundle does not have, or asks for what
            no engine can do.
    """
    cache = user_cache_folder()
    key = tuning_key(manifest.bundle_id, engine_options.threads)
    tuning = None if cache is None else read_tuning(cache / "tuning", key)
    kinds = installed_kinds()
    gpus = gpus_here(kinds, measured=tuning is not None)
    machine = Machine(kinds, key.processor, tuning, gpus)
    return make_plan(manifest, engine_options, machine, positions, cache and cache / "engines")


def make_plan(
    manifest: Manifest,
    engine_options: EngineOptions,
    machine: Machine,
    positions: Sequence[int] | None = None,
    cache: Path | None = None,
) -> EnginePlan:
    """See `plan_here`; a function of its arguments."""
    demanded = requested_precisions(manifest, engine_options)
    components = manifest.components
    planned = components if positions is None else [components[at] for at in positions]
    choices = {}
    untuned = []
    for component in planned:
        pairs = list(candidates(component, engine_options, demanded.get(component.name), machine))
        if not pairs:
            raise no_engine_error(component, engine_options, demanded.get(component.name))
        # One candidate is no guess.
        guessed = engine_options.kind_for(component.name) is None and len(pairs) > 1
        if guessed and not measured_pairs(component, pairs, machine):
            untuned.append(component.name)
        kind, precision = choose(manifest, component, pairs, machine)
        address = engine_options.address_for(component.name)
        choices[component.name] = EngineChoice(kind, precision, engine_options.threads, address)
    named = tuple(name for name in choices if engine_options.kind_for(name) is not None)
    return EnginePlan(choices, cache, gpus=machine.gpus, untuned=tuple(untuned), named=named)


def requested_precisions(manifest: Manifest, engine_options: EngineOptions) -> dict[str, Precision]:
    """The precision of every component for which one was asked; a function of the bundle alone.

    A precision that the bundle has files of means those files, and float32 for components without
    one. A precision of which it has no file at all is for the engine to compute.

    Raises:
        InvalidRequest: a component is named that the bundle does not have, or a precision that it
            does not hold and no engine computes by itself.
    """
    engine_options.check_names([component.name for component in manifest.components])
    demanded = {}
    for component in manifest.components:
        wanted = engine_options.precision_for(component.name)
        if wanted is None:
            continue
        held = [c.name for c in manifest.components if wanted in file_precisions(c)]
        if not held and wanted in FROM_FILES:
            raise InvalidRequest(
                f"precision: this bundle has no {wanted} file and no engine makes one by itself: "
                "use fp32 or auto",
                field="precision",
            )
        # A bundle with int8 of the upsamplers alone runs its base in float32, and says so.
        missing = held and component.name not in held
        demanded[component.name] = Precision.FP32 if missing else wanted
        check_precision(component, demanded[component.name])
    return demanded


def file_precisions(
    component: ComponentSpec, kind: EngineKind | None = None
) -> tuple[Precision, ...]:
    """The precisions of which a component has a file, float32 first.

    Args:
        component: its entry in the manifest.
        kind: only files that this engine reads; all when None.
    """
    found = {Precision.FP32}
    for graph in component.graphs.values():
        files = {variant.precision for variant in graph.variants}
        found |= {p for p in files if kind is None or reads_files(kind, p)}
        if kind is None or kind in GPU_GRAPH_KINDS:
            found |= {form.precision for form in graph.gpu_forms}
    return tuple(precision for precision in Precision if precision in found)


def choice_for(component: ComponentSpec, choice: EngineChoice, role: str) -> EngineChoice:
    """How one graph of a component is run: the component's choice, with the graph's shapes."""
    model = model_name(component.name, role) if choice.address else ""
    return replace(choice, default_shapes=default_shapes(component, role), model=model)


def graph_for(
    bundle: Bundle, component: ComponentSpec, choice: EngineChoice, role: str = NET
) -> GraphSource:
    """The graph that a choice runs, its hash checked.

    Raises:
        ManifestError: the file is not what the manifest says.
        EngineError: the bundle has no file of that precision that the engine reads.
    """
    if choice.kind in GPU_GRAPH_KINDS:
        return gpu_graph(bundle, component.graphs[role], choice.precision)
    graph = bundle.read_graph(component.graphs[role], choice.precision)
    # The file's bytes are let go here, before an engine takes memory of its own.
    if choice.kind is EngineKind.ORT and isinstance(graph, bytes):
        return loosened(graph)
    return graph


def files_to_open(manifest: Manifest, positions: Sequence[int], plan: EnginePlan) -> set[str]:
    """Names of the files that are read when components are opened by a plan; perhaps some more.

    Args:
        manifest: of the bundle.
        positions: of the components.
        plan: how they are run.
    """
    found: set[str] = set()
    for component in (manifest.components[at] for at in positions):
        precision = plan.of(component.name).precision
        found.update(component.files)
        for graph in component.graphs.values():
            found -= {form.file for form in graph.variants if form.precision is not precision}
            found -= {form.file for form in graph.gpu_forms if form.precision is not precision}
    return found


def files_beside_weights(manifest: Manifest, positions: Sequence[int]) -> set[str]:
    """Names of the files of graphs whose weights lie in a file of their own, and of those files.

    Args:
        manifest: of the bundle.
        positions: of the components.
    """
    graphs = [graph for at in positions for graph in manifest.components[at].graphs.values()]
    return {name for graph in graphs if graph.weights is not None for name in graph.all_files}


def auto_precisions(
    component: ComponentSpec, kind: EngineKind, processor: Processor
) -> list[Precision]:
    """The precisions that `cascade tune` measures and `auto` may then take, float32 first.

    Those with a file, for the exporter has compared their pictures; and of super-resolution stages
    the half precisions that the engine computes in with this processor's instructions, for the
    trial compares their steps. Not of the base stage: what it changes is carried through, and one
    step does not tell by how much (of 16 pictures 50 dB on average, 38 at worst). Nor of the text
    encoder, whose time is next to nothing; nor of a family whose results are drawn, where a small
    error is a large one.
    """
    found = set(file_precisions(component, kind))
    lows, made = value_of(Image, component.starts_from), value_of(Image, (component.makes,))
    enlarges = not (lows is None or made is None or family_of(component).is_discrete)
    if enlarges:
        halves = PROCESSOR_HALVES.get(kind, {})
        found |= {half for half, flags in halves.items() if flags.intersection(processor.flags)}
    return [precision for precision in Precision if precision in found]


def candidates(
    component: ComponentSpec,
    engine_options: EngineOptions,
    precision: Precision | None,
    machine: Machine,
) -> Iterator[Pair]:
    """Engine and precision pairs that were asked for, in the order of preference.

    Unless one is asked for, only precisions that were compared with float32 and found close.
    """
    wanted = engine_options.kind_for(component.name)
    for kind in ranked(machine.kinds, machine.gpus) if wanted is None else (wanted,):
        if precision is None and kind is EngineKind.TRITON:
            # What `cascade export-triton` writes unless it is told otherwise.
            yield kind, Precision.FP32
        elif precision is None:
            close = set(auto_precisions(component, kind, machine.processor)) - lossy_precisions(
                component
            )
            yield from ((kind, candidate) for candidate in Precision if candidate in close)
        elif precision in file_precisions(component, kind) or precision in OWN_PRECISIONS[kind]:
            yield kind, precision


def choose(
    manifest: Manifest, component: ComponentSpec, pairs: list[Pair], machine: Machine
) -> Pair:
    """The most exact of the fast ones that were measured; else what is safe everywhere.

    Unmeasured: an engine of GPUs that can be used here, else the first engine in the order of
    `EngineKind` (ONNX Runtime where it is installed), and 8-bit arithmetic only on processors with
    instructions for it. OpenVINO is never taken
    unmeasured where there is another: on some graphs it ends the process, and only trying tells.
    Nor is bfloat16: only the trial says how close it is.
    """
    measured = measured_pairs(component, pairs, machine)
    if measured and machine.tuning is not None:
        whole = request_ms(manifest, machine.tuning)
        # Measured here beats every rule.
        return preferred(measured, whole)
    kind = pairs[0][0]
    precisions = [precision for other, precision in pairs if other is kind]
    # Not without instructions for it: docs/decisions/0010-int8-variants.md.
    in_bytes = machine.processor.has_int8_dot and kind not in GPU_KINDS
    if Precision.INT8 in precisions and in_bytes:
        return kind, Precision.INT8
    return kind, precisions[0]


def measured_pairs(
    component: ComponentSpec, pairs: Sequence[Pair], machine: Machine
) -> dict[Pair, float]:
    """Milliseconds of the pairs that `cascade tune` measured and that can still be used here."""
    if machine.tuning is None:
        return {}
    times = machine.tuning.usable(component.name, cost_of(component).runs)
    gone = machine.gpus.refused
    return {pair: times[pair] for pair in pairs if pair in times and pair[0] not in gone}


def no_engine_error(
    component: ComponentSpec, engine_options: EngineOptions, precision: Precision | None
) -> Exception:
    """The error for options that nothing here fulfils."""
    kind = engine_options.kind_for(component.name)
    if kind is None and precision is None:
        return InvalidRequest(
            "engine: none is installed: pip install 'edge-cascade[cpu]'", field="engine"
        )
    if kind is not None and precision is not None and not reads_files(kind, precision):
        able = ", ".join(sorted(BLOCK_KINDS[precision]))
        return InvalidRequest(
            f"precision: engine {kind} runs no {precision} file of {component.name}: use --engine "
            f"{able}, or another precision",
            field="precision",
        )
    engine = "no installed engine" if kind is None else f"engine {kind}"
    return InvalidRequest(
        f"precision: {engine} computes {component.name} in {precision} and the bundle has no such "
        "file: use fp32 or auto",
        field="precision",
    )
