"""ONNX bytes to a TensorRT engine, once per key.

Networks are strongly typed: what a layer computes in is what the graph says, in both libraries, so
a lower precision is another graph and never an option of the builder's. After parsing, what was
whole in the graph must be whole in the network. Knows the library; not bundles nor engines at work.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cascade.codecs.onnx_operators import whole_blocks
from cascade.engines.cuda_driver import find_device
from cascade.engines.engine_cache import CachedEngine, CacheKey, EngineCache, Made, Unfit
from cascade.engines.trt_library import LIBRARY, VERSION, Complaints, trt
from cascade.engines.trt_options import BuildOptions, Capability, profile_shapes, require_format
from cascade.errors import EngineError
from cascade.precision import Precision
from cascade.types import Array
from cascade.weights.source import GraphSource, graph_data, source_sha256

PORTABLE = "portable"
"""Target of an engine that the RTX library finishes for the card it finds when it is loaded."""

NO_WEIGHTS: Mapping[str, Array] = {}
HEAVY = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
FORMATS = {Precision.FP16: "HALF", Precision.BF16: "BF16", Precision.FP8: "FP8"}


@dataclass(frozen=True, slots=True)
class ParsedNetwork:
    """A graph as the library understood it.

    Attributes:
        builder, network: the library's objects; the network lives as long as its builder.
        complaints: what the library said meanwhile.
        layers: how many layers of each type.
        formats: how many heavy layers read each number format.
    """

    builder: Any
    network: Any
    complaints: Complaints
    layers: Mapping[str, int] = field(default_factory=dict)
    formats: Mapping[str, int] = field(default_factory=dict)


def cached_engine(cache: EngineCache, graph: GraphSource, options: BuildOptions) -> CachedEngine:
    """The engine of a graph from the cache, or built into it.

    Raises:
        EngineError: the library refuses the graph or the options.
    """
    key = engine_key(graph, options)
    return cache.get_or_build(key, lambda: build_engine(graph, options, cache))


def engine_key(graph: GraphSource, options: BuildOptions) -> CacheKey:
    """All that the engine of a graph depends on."""
    return CacheKey(
        graph_sha256=source_sha256(graph),
        library=LIBRARY,
        library_version=VERSION,
        target=target(options),
        profile=options.profile,
        precision=options.precision,
        flags=options.flags,
    )


def target(options: BuildOptions) -> str:
    """What the engine will run on, as text.

    Raises:
        EngineError: the datacentre library without a card, or for another card than this one.
    """
    listed = "+".join(str(capability) for capability in sorted(options.capabilities))
    if LIBRARY == "tensorrt_rtx":
        return listed or PORTABLE
    device = find_device()
    if device is None:
        raise EngineError(
            "tensorrt builds on the card that will run the engine, and there is none here: "
            "build there, or install tensorrt_rtx instead, which builds ahead of time"
        )
    here = Capability(device.major, device.minor)
    if listed not in ("", str(here)):
        raise EngineError(
            f"compute-capability: tensorrt builds for the card at hand, which is {here}: leave the "
            f"option away, or install tensorrt_rtx",
            field="compute-capability",
        )
    require_format(options.precision, here)
    return f"{here} {device.name}"


def build_engine(
    graph: GraphSource, options: BuildOptions, cache: EngineCache | None = None
) -> Made:
    """Build, whatever the cache holds.

    Args:
        graph: weights beside it are read where they lie.
        options: what for.
        cache: keeps the timings of the datacentre library; the RTX library takes none.

    Raises:
        EngineError: the library refuses the graph or the options, or a block did not arrive whole.
    """
    if isinstance(graph, bytes):
        return build_from(graph, NO_WEIGHTS, options, cache)
    # The network points into the weights: they stay until it is built, or cannot be.
    lease = graph.lease()
    try:
        return build_from(graph, lease.tensors, options, cache)
    finally:
        lease.release()


def build_from(
    graph: GraphSource,
    weights: Mapping[str, Array],
    options: BuildOptions,
    cache: EngineCache | None,
) -> Made:
    """Build with weights that stay where they are; see `build_engine`.

    Args:
        graph: what is built.
        weights: those beside it, of any shapes and dtypes.
        options: what for.
        cache: see `build_engine`.
    """
    start = time.perf_counter()
    parsed = parse(graph, weights)
    require_whole(graph, parsed)
    require_precision(options.precision, parsed)
    parse_s = time.perf_counter() - start
    config = configure(parsed, options)
    timing = TimingCache(config, cache, target(options))
    serialized = parsed.builder.build_serialized_network(parsed.network, config)
    if serialized is None:
        raise refusal(parsed.complaints.text, options)
    timing.keep()
    facts = {
        "layers": dict(parsed.layers),
        "formats": dict(parsed.formats),
        "whole": whole_blocks(graph_data(graph)),
        "parse_s": round(parse_s, 3),
        "build_s": round(time.perf_counter() - start - parse_s, 3),
    }
    return Made(bytes(serialized), facts)


def refusal(text: str, options: BuildOptions) -> EngineError:
    """Why the builder gave nothing, and what may help."""
    if "OutOfMemory" in text:
        return EngineError(
            f"workspace-mib: {options.workspace_mib} MiB do not hold the widest layers at batch "
            f"{options.max_batch} and size {options.size}: allow more, or make those smaller",
            field="workspace-mib",
        )
    return EngineError(f"{LIBRARY} cannot build the engine: {text}")


def parse(graph: GraphSource, weights: Mapping[str, Array] = NO_WEIGHTS) -> ParsedNetwork:
    """A graph as a network of the library.

    Args:
        graph: see `build_engine`.
        weights: those that lie beside the graph, of any shapes and dtypes; they outlive the
            network.

    Raises:
        EngineError: an operator or a shape that the library does not know.
    """
    complaints = Complaints()
    builder = trt.Builder(complaints)
    strong = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strong)
    parser = trt.OnnxParser(network, complaints)
    if not read_into(parser, graph_data(graph), weights):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        where = "; ".join(f"{e.node_operator()} {e.node_name()}: {e.desc()}" for e in errors[:3])
        raise EngineError(
            f"{LIBRARY} cannot read the graph: {where or complaints.text}. Graphs rewritten for "
            f"CPUs need a form for GPUs in the bundle: docs/how-to/nvidia-gpu.md"
        )
    every = [network.get_layer(i) for i in range(network.num_layers)]
    allow_decomposing(every)
    layers = Counter(layer.type.name for layer in every)
    formats = Counter(layer.get_input(0).dtype.name for layer in every if layer.type.name in HEAVY)
    return ParsedNetwork(builder, network, complaints, dict(layers), dict(formats))


def read_into(parser: Any, data: bytes, weights: Mapping[str, Array]) -> bool:
    """Parse an ONNX file, its outer weights by their addresses: the library opens no file.

    Args:
        parser: the library's, with a network to fill.
        data: the ONNX file's bytes.
        weights: of any shapes and dtypes.
    """
    if not weights:
        return bool(parser.parse(data))
    if not parser.load_model_proto(data):
        return False
    for name, value in weights.items():
        if not parser.load_initializer(name, value.ctypes.data, value.nbytes):
            return False
    return bool(parser.parse_model_proto())


def allow_decomposing(layers: list[Any]) -> None:
    """Let attention fall apart where the library has no kernel for its type and shape.

    In float32 there is none, and without this the whole build fails.
    """
    for layer in layers:
        if layer.type.name == "ATTENTION_INPUT":
            layer.__class__ = trt.IAttentionInputLayer
            layer.attention.decomposable = True


def require_whole(graph: GraphSource, parsed: ParsedNetwork) -> None:
    """Raise unless every normalisation and attention of the graph is one in the network."""
    found = {
        "norms": parsed.layers.get("NORMALIZATION", 0),
        "attention": parsed.layers.get("ATTENTION_INPUT", 0),
    }
    expected = whole_blocks(graph_data(graph))
    if found != expected:
        raise EngineError(f"the graph has {expected}, the network that was read from it {found}")


def require_precision(precision: Precision, parsed: ParsedNetwork) -> None:
    """Raise unless some heavy layers compute in the precision that was asked for."""
    wanted = FORMATS.get(precision)
    quantized = parsed.layers.get("QUANTIZE", 0) > 0
    met = quantized if precision is Precision.INT8 else wanted is None or wanted in parsed.formats
    if not met:
        raise EngineError(
            f"precision: no layer of the graph computes in {precision}, its heavy layers read "
            f"{dict(parsed.formats)}: give the graph's {precision} form",
            field="precision",
        )


def configure(parsed: ParsedNetwork, options: BuildOptions) -> Any:
    """The builder's configuration; every choice in it is part of `BuildOptions.flags`.

    Refit, stripping of weights and version compatibility are flags that stay unset.
    """
    config = parsed.builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    config.clear_flag(trt.BuilderFlag.TF32)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if LIBRARY == "tensorrt_rtx" and options.capabilities:
        config.num_compute_capabilities = len(options.capabilities)
        for position, capability in enumerate(sorted(options.capabilities)):
            member = getattr(trt.ComputeCapability, capability.member, None)
            if member is None or not config.set_compute_capability(member, position):
                raise EngineError(
                    f"compute-capability: {LIBRARY} {VERSION} does not know {capability}",
                    field="compute-capability",
                )
    profile = parsed.builder.create_optimization_profile()
    for i in range(parsed.network.num_inputs):
        tensor = parsed.network.get_input(i)
        profile.set_shape(tensor.name, *profile_shapes(tensor.name, axes(tensor), options.axes))
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(f"{LIBRARY} refuses the profile: {parsed.complaints.text}")
    return config


def axes(tensor: Any) -> tuple[int | str, ...]:
    """A network input's shape; free axes by the names that the graph gives them."""
    return tuple(
        (tensor.get_dimension_name(i) or f"axis {i}") if size < 0 else int(size)
        for i, size in enumerate(tuple(tensor.shape))
    )


class TimingCache:
    """Timings of the datacentre library's kernels, kept between builds beside the engines.

    The RTX library compiles without timing; there this does nothing.
    """

    def __init__(self, config: Any, cache: EngineCache | None, on: str) -> None:
        self.config = config
        self.cache = cache if LIBRARY == "tensorrt" else None
        self.key = CacheKey(
            graph_sha256="timings of every graph",
            library=LIBRARY,
            library_version=VERSION,
            target=on,
            profile="",
            precision=Precision.FP32,
            flags=(),
        )
        if self.cache is None:
            return
        try:
            known = self.cache.read(self.key).payload
        except Unfit:
            known = b""
        config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)

    def keep(self) -> None:
        """Write what was learnt; of two builders at once the last one's timings stay."""
        if self.cache is not None:
            timings = bytes(self.config.get_timing_cache().serialize())
            self.cache.keep(self.key, Made(timings, {}))


def inspect_engine(payload: bytes) -> dict[str, int] | None:
    """How many layers of each type the finished engine has; None where there is no card.

    Raises:
        EngineError: the library cannot load the engine on this card.
    """
    if find_device() is None:
        return None
    complaints = Complaints()
    engine = trt.Runtime(complaints).deserialize_cuda_engine(payload)
    if engine is None:
        raise EngineError(f"{LIBRARY} cannot load the engine: {complaints.text}")
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return dict(Counter(str(layer.get("LayerType", "?")) for layer in json.loads(text)["Layers"]))
