"""A replica of a bundle as a capacity plan sees it: what a server says of itself, or this machine.

Turns server info, records of `cascade tune` and a request's costs into the values of `capacity`.
Asks no server.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cascade.boundary import Image, value_of
from cascade.bundle.bundle import Bundle
from cascade.cost import Cost
from cascade.engines.factory import EngineChoice
from cascade.engines.kinds import EngineKind
from cascade.errors import InvalidRequest
from cascade.families import cost_of
from cascade.family import ComponentSpec
from cascade.precision import Precision
from cascade.request import GenerateRequest
from cascade.system.cores import usable_cores
from cascade.tuning.dummy_inputs import default_batch
from cascade.tuning.memory_needs import memory_need
from cascade.tuning.options import EngineOptions
from cascade.tuning.plan import plan_here
from runtime_client.local.local_times import TunedTimes, tuned_seconds
from runtime_client.planning.capacity import CapacityPlan, ReplicaComponent
from runtime_client.planning.cost_model import PredictedRun, predict
from runtime_client.planning.facts import (
    LOSSLESS_PACK_S,
    KnownFacts,
    component_facts,
    link_facts,
)
from wire.server_info import ComponentInfo, ServerInfo

PROCESS_BYTES = 120 << 20
"""Of a server beside its components: Python, gRPC, the engine's library."""
THIS_MACHINE = "this machine"
CPU = "CPU"


def announced_component(
    bundle: Bundle, spec: ComponentSpec, info: ComponentInfo, request: GenerateRequest
) -> ReplicaComponent:
    """A component as its server announces it.

    Args:
        bundle: that both sides have.
        spec: its entry in the manifest.
        info: what the server says of it.
        request: whose work is counted.

    Raises:
        InvalidRequest: the server has not measured it.
    """
    cost = cost_of(spec, request)
    kind = EngineKind(info.engine) if info.engine in set(EngineKind) else EngineKind.ORT
    precision = info.precision or Precision.FP32
    return ReplicaComponent(
        name=spec.name,
        engine=info.engine,
        precision=precision,
        source="announced",
        runs=cost.runs,
        run_s=announced_runs(spec, info, cost.runs),
        rows=default_batch(spec),
        max_rows=info.max_batch_rows,
        host_s=info.host_milliseconds_per_step / 1000 * cost.units,
        memory_bytes=memory_of(bundle, spec, EngineChoice(kind, precision)),
    )


def announced_runs(
    spec: ComponentSpec, info: ComponentInfo, roles: Iterable[str]
) -> dict[str, dict[int, float]]:
    """What runs of a component take in the roles of a request: by role, rows to seconds.

    Raises:
        InvalidRequest: the server has not measured it.
    """
    run_s = run_seconds(info)
    missing = set(roles) - set(run_s)
    if missing:
        raise InvalidRequest(
            f"capacity: the server has not measured {spec.name} yet, or is older than this: wait "
            "until it is warm, or send it a request",
            field="capacity",
        )
    return {role: run_s[role] for role in roles}


def run_seconds(info: ComponentInfo) -> dict[str, dict[int, float]]:
    """What a server says of runs: by role, rows to seconds."""
    found: dict[str, dict[int, float]] = {}
    for run in info.run_times:
        found.setdefault(run.role, {})[run.rows] = run.milliseconds / 1000
    return found


def components_here(
    bundle: Bundle,
    specs: Iterable[ComponentSpec],
    options: EngineOptions,
    request: GenerateRequest,
) -> list[ReplicaComponent]:
    """Components as `cascade tune` measured them on this machine; rows share no runs.

    Raises:
        InvalidRequest: one was not measured.
    """
    tuned = tuned_seconds(bundle.manifest, options)
    plan = plan_here(bundle.manifest, options)
    found = []
    for spec in specs:
        cost = cost_of(spec, request)
        times = tuned.get(spec.name)
        if times is None or not set(cost.runs) <= set(times.run_s):
            raise InvalidRequest(
                f"capacity: {spec.name} was not measured on this machine: run `cascade tune`, or "
                "name a --server",
                field="capacity",
            )
        found.append(tuned_component(bundle, spec, plan.of(spec.name), cost, times))
    return found


def tuned_component(
    bundle: Bundle, spec: ComponentSpec, choice: EngineChoice, cost: Cost, times: TunedTimes
) -> ReplicaComponent:
    """A component as it was tuned; see `components_here`."""
    rows = default_batch(spec)
    return ReplicaComponent(
        name=spec.name,
        engine=choice.kind,
        precision=choice.precision,
        source="tuned",
        runs=cost.runs,
        run_s={role: {rows: times.run_s[role]} for role in cost.runs},
        rows=rows,
        max_rows=rows,
        memory_bytes=memory_of(bundle, spec, choice),
    )


def memory_of(bundle: Bundle, spec: ComponentSpec, choice: EngineChoice) -> int:
    """Weights and a run of a component; 0 where its files are not here."""
    if not bundle.has(bundle.manifest.position(spec.name)):
        return 0
    need = memory_need(bundle, spec, choice)
    bundle.ahead.clear()
    return need.weights + need.run


def encoding_s(spec: ComponentSpec, request: GenerateRequest, rate: float | None) -> float:
    """Seconds to encode a component's picture.

    Args:
        spec: its entry.
        request: whose picture it is.
        rate: seconds per byte of raw pixels as they were seen; None guesses.
    """
    if value_of(Image, (spec.makes,)) is None:
        return 0.0
    return cost_of(spec, request).result_bytes * (LOSSLESS_PACK_S if rate is None else rate)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedWork:
    """The work that a replica is planned for."""

    bundle: Bundle
    request: GenerateRequest
    positions: Sequence[int]
    """Of the request's components, those before the cut too."""
    cut: int
    """Position of the first component that runs on the replica."""
    known: KnownFacts
    """What was learned of bytes and times."""

    @property
    def specs(self) -> list[ComponentSpec]:
        """The components that run on the replica."""
        return [self.bundle.manifest.components[at] for at in self.positions if at >= self.cut]

    def check(self) -> None:
        """Refuse a cut after which nothing is left.

        Raises:
            InvalidRequest: naming the cut.
        """
        if not self.specs:
            raise InvalidRequest(
                f"cut: expected 0 to {self.positions[-1]} of this request, got {self.cut}: nothing "
                "would run on a replica",
                field="cut",
            )

    def moved(self) -> PredictedRun:
        """What goes up and down the line for a picture."""
        components = [self.bundle.manifest.components[at] for at in self.positions]
        facts, _ = component_facts(components, self.positions[0], self.request, self.known)
        places = tuple(at < self.cut for at in self.positions)
        return predict(facts, link_facts(self.known)[0], places)

    @property
    def bytes_from(self) -> str:
        """Where the sizes of pictures come from."""
        seen = (self.known.of_link.value(f"down.{spec.name}") for spec in self.specs)
        return "guess" if None in seen else "measured"


def capacity_there(work: PlannedWork, address: str, info: ServerInfo) -> CapacityPlan:
    """The plan of replicas like a server.

    Args:
        work: what it does.
        address: of the server.
        info: what it says of itself.

    Raises:
        InvalidRequest: it hosts no such component, or has not measured one.
    """
    work.check()
    hosted = {component.name: component for component in info.components}
    missing = [spec.name for spec in work.specs if spec.name not in hosted]
    if missing:
        raise InvalidRequest(
            f"cut: {address} does not host {missing[0]}: name a cut behind it, or another server",
            field="cut",
        )
    encode = work.known.of_link.value("encode")
    parts = []
    for spec in work.specs:
        part = announced_component(work.bundle, spec, hosted[spec.name], work.request)
        host_s = part.host_s + encoding_s(spec, work.request, encode)
        parts.append(replace(part, host_s=host_s))
    devices = sorted({hosted[part.name].device or CPU for part in parts})
    cores = info.cores or usable_cores()
    plan = plan_of(work, parts, address, ", ".join(devices), cores)
    if not info.resident_bytes:
        return plan
    return replace(plan, memory_bytes=info.resident_bytes, memory_from="measured")


def capacity_here(work: PlannedWork, options: EngineOptions) -> CapacityPlan:
    """The plan of replicas like this machine.

    Args:
        work: what it does.
        options: engine and precision that were asked for.

    Raises:
        InvalidRequest: a component was not measured here.
    """
    work.check()
    parts = [
        replace(part, host_s=encoding_s(spec, work.request, None))
        for spec, part in zip(
            work.specs,
            components_here(work.bundle, work.specs, options, work.request),
            strict=True,
        )
    ]
    plan = plan_here(work.bundle.manifest, options)
    devices = sorted({plan.device(part.name) for part in parts})
    return plan_of(work, parts, THIS_MACHINE, ", ".join(devices), usable_cores())


def plan_of(
    work: PlannedWork, parts: Sequence[ReplicaComponent], replica: str, device: str, cores: int
) -> CapacityPlan:
    """The plan of a replica's parts, its memory estimated."""
    moved = work.moved()
    return CapacityPlan(
        replica=replica,
        device=device,
        cores=cores,
        components=tuple(parts),
        memory_bytes=PROCESS_BYTES + sum(part.memory_bytes for part in parts),
        memory_from="estimated",
        bytes_up=moved.bytes_up,
        bytes_down=moved.bytes_down,
        bytes_from=work.bytes_from,
    )
