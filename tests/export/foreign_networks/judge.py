"""Tries one network from torch to engines and says what is wrong with what the exporter made of it.

The measure is the plain export's own error in ONNX Runtime: a graph is wrong where it is more than
`TIMES_WORSE` of that and over a floor. Knows graphs and engines; not which networks there are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import torch
from torch import nn

from cascade.engine import Engine
from cascade.engines.ort import OrtEngine
from cascade.errors import CascadeError, MissingExtra
from cascade.graph_spec import TensorSpec
from cascade.precision import Precision
from cascade.types import Array
from export.gpu_variant.cpu_checkable import cpu_checkable
from export.gpu_variant.form import gpu_form
from export.graphs import export_graph
from export.passes.pipeline import optimize
from export.quantize.calibration import observe
from export.quantize.layers import find_layers
from export.quantize.ranges import choose_range
from export.quantize.static import LayerLevels, quantize
from export.weights.exact_storage import store_exactly
from tests.export.foreign_networks.network import Network

TIMES_WORSE = 20
FLOORS = {0: 1e-4, 100: 1e-3}
"""Least error that counts, in standard deviations of torch's answer, by the mean of the inputs."""
HALF_FLOOR = 0.05
"""Of a form in half precision, root mean square: what another structure gives is far above it."""
EIGHT_BIT_FLOOR = 0.7
"""Of an int8 graph, root mean square, every layer in eight bits of a few cases: less than none."""

SIZES = (
    {"batch": 3, "height": 32, "width": 64, "tokens": 9},
    {"batch": 2, "height": 64, "width": 32, "tokens": 5},
    {"batch": 1, "height": 32, "width": 32, "tokens": 6},
)

Case = dict[str, Array]
Answers = list[Array]


@dataclass(frozen=True, slots=True)
class Asked:
    """Inputs of one run and torch's answers."""

    mean: int
    inputs: Case
    answers: Answers


def run_torch(module: nn.Module, case: Case) -> Answers:
    """All outputs."""
    with torch.no_grad():
        found = module(**{name: torch.from_numpy(value) for name, value in case.items()})
    found = found if isinstance(found, tuple | list) else (found,)
    return [value.numpy() for value in found]


def made_up(network: Network, sizes: Mapping[str, int], mean: int) -> Case:
    """Inputs of a size; pictures and tokens have the mean, vectors and masks lie in 0 to 1."""
    rng = np.random.default_rng(sizes["batch"])
    case: Case = {}
    for name, shape in network.inputs.items():
        axes = [sizes[n] if isinstance(n, str) else n for n in shape]
        if name in network.ids:
            case[name] = rng.integers(0, 20, axes)
        elif name.startswith("mask"):
            case[name] = (rng.random(axes) > 0.3).astype(np.float32)
            case[name][..., 0] = 1
        elif len(axes) > 2:
            case[name] = rng.standard_normal(axes).astype(np.float32) + np.float32(mean)
        else:
            case[name] = rng.random(axes).astype(np.float32)
    return case


def rows_of(network: Network, case: Case) -> Iterator[Case]:
    """Every row of a batch alone."""
    batched = [n for n, shape in network.inputs.items() if shape[0] == "batch"]
    for row in range(len(case[batched[0]])):
        yield {n: v[row : row + 1] if n in batched else v for n, v in case.items()}


def cases_of(network: Network, module: nn.Module) -> list[Asked]:
    """Three sizes, the first one's rows alone too, then all of it around 100."""
    inputs = [(0, made_up(network, sizes, 0)) for sizes in SIZES]
    inputs += [(0, row) for row in rows_of(network, inputs[0][1])]
    inputs.append((100, made_up(network, SIZES[0], 100)))
    return [Asked(mean, case, run_torch(module, case)) for mean, case in inputs]


def signature(
    network: Network, cases: Sequence[Asked]
) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Inputs and outputs for the exporter; output axes that move with a free axis are free."""
    inputs = [
        TensorSpec(name=n, dtype="int64" if n in network.ids else "float32", shape=shape)
        for n, shape in network.inputs.items()
    ]
    outputs = []
    for number, answers in enumerate(zip(*(case.answers for case in cases[:3]), strict=True)):
        shapes = list(zip(*(value.shape for value in answers), strict=True))
        shape = tuple(
            sizes[0] if len(set(sizes)) == 1 else named(sizes, f"y{number}_{axis}")
            for axis, sizes in enumerate(shapes)
        )
        outputs.append(TensorSpec(name=f"y{number}", dtype="float32", shape=shape))
    return inputs, outputs


def named(found: Sequence[int], otherwise: str) -> str:
    """The free axis that has these sizes, or a name of its own."""
    names = [n for n in SIZES[0] if [sizes[n] for sizes in SIZES] == list(found)]
    return names[0] if names else otherwise


@dataclass(slots=True)
class Verdict:
    """What was found: faults by stage of the way, and what was refused by design."""

    faults: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)


class Trial:
    """One network on its way through the exporter."""

    def __init__(self, network: Network) -> None:
        """Export it; the errors of the plain export are what everything is measured by."""
        self.network = network
        module = network.module()
        self.cases = cases_of(network, module)
        inputs, outputs = signature(network, self.cases)
        self.names = [output.name for output in outputs]
        self.plain = export_graph(module, inputs, outputs)
        self.verdict = Verdict()
        self.limits = self.limits_of_plain()

    def limits_of_plain(self) -> list[float]:
        """How far a graph may be from torch in every case."""
        engine = OrtEngine(self.plain.SerializeToString(), threads=1)
        errors = [self.error(engine, case) for case in self.cases]
        if not np.isfinite(errors).all():
            # By such a measure nothing would be wrong.
            self.verdict.faults.append(f"plain export: {max(errors)} std off")
        return [
            max(FLOORS[case.mean], TIMES_WORSE * error)
            for case, error in zip(self.cases, errors, strict=True)
        ]

    def error(self, engine: Engine, case: Asked, *, mean: bool = False) -> float:
        """Largest difference from torch, or the root mean square, in standard deviations."""
        found = engine.run(case.inputs)
        worst = 0.0
        for name, wanted in zip(self.names, case.answers, strict=True):
            if found[name].shape != wanted.shape:
                return float("inf")
            both_nan = np.isnan(found[name]) & np.isnan(wanted)
            apart = np.where(both_nan, 0, np.abs(found[name].astype(np.float64) - wanted))
            missed = np.sqrt(np.square(apart).mean()) if mean else apart.max()
            scale = max(float(np.nanstd(wanted)), 1e-6)
            worst = max(worst, float("inf") if np.isnan(missed) else float(missed) / scale)
        return worst

    def compare(self, what: str, engine: Engine, floor: float = 0.0) -> None:
        """Note the worst case of an engine where it is over its limit."""
        cases = zip(self.cases, self.limits, strict=True)
        if floor:
            cases = zip(self.cases[:3], [floor] * 3, strict=True)
        for case, limit in cases:
            missed = self.error(engine, case, mean=bool(floor))
            if missed > max(limit, floor):
                rows = len(next(iter(case.inputs.values())))
                self.verdict.faults.append(
                    f"{what}: {missed:.1e} std off with {rows} rows of mean {case.mean}, "
                    f"allowed {max(limit, floor):.1e}"
                )
                return

    def attempt(self, what: str, model: onnx.ModelProto, floor: float = 0.0) -> None:
        """Load and compare a graph in ONNX Runtime."""
        try:
            self.compare(what, OrtEngine(model.SerializeToString(), threads=1), floor)
        except CascadeError as failed:
            self.verdict.faults.append(f"{what}: {failed}"[:300])


def judge(network: Network, *, eight_bits: bool) -> Verdict:
    """Everything that is wrong with what becomes of a network."""
    trial = Trial(network)
    optimized = copied(trial.plain)
    try:
        counts = optimize(optimized)
        unstored = copied(optimized)
        store_exactly(optimized)
    except Exception as failed:  # noqa: BLE001 - whatever a pass raises is what is looked for
        trial.verdict.faults.append(f"raised: {type(failed).__name__}: {failed}"[:300])
        return trial.verdict
    trial.verdict.undone += [name for name in counts if name.endswith("undone")]
    trial.attempt("ONNX Runtime", optimized)
    try_openvino(trial, optimized)
    for precision, floor in ((Precision.FP32, 0.0), (Precision.FP16, HALF_FLOOR)):
        try_gpu_form(trial, precision, floor)
    if eight_bits and not trial.verdict.faults:
        try_eight_bits(trial, unstored)
    return trial.verdict


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def try_openvino(trial: Trial, model: onnx.ModelProto) -> None:
    """The same graph where OpenVINO is installed; what it refuses to load is no fault."""
    try:
        from cascade.engines.openvino import OpenVinoEngine
    except MissingExtra:
        return
    try:
        engine = OpenVinoEngine(model.SerializeToString(), threads=1)
        engine.run(trial.cases[0].inputs)
    except CascadeError as refused:
        trial.verdict.refused.append(f"OpenVINO: {refused}"[:200])
        return
    trial.compare("OpenVINO", engine)


def try_gpu_form(trial: Trial, precision: Precision, floor: float) -> None:
    """The form for GPUs; a shape that it does not know it refuses, and that is no fault."""
    try:
        form = gpu_form(trial.plain, precision)
    except ValueError as refused:
        trial.verdict.refused.append(f"{precision} form: {refused}"[:200])
        return
    trial.attempt(f"{precision} form", cpu_checkable(form.model), floor)


def try_eight_bits(trial: Trial, model: onnx.ModelProto) -> None:
    """Every convolution and product in eight bits: it must run, and be more than noise."""
    layers = find_layers(model)
    if not layers:
        return
    calibration = [case.inputs for case in trial.cases[:3]]
    seen = observe(model, layers, calibration)
    chosen = {name: choose_range(values, "uint8", "percentile") for name, values in seen.items()}
    quantize(
        model, layers, LayerLevels(chosen, {layer.name: chosen[layer.name] for layer in layers})
    )
    store_exactly(model)
    trial.attempt("int8", model, EIGHT_BIT_FLOOR)
