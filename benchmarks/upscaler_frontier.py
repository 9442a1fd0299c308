"""What does the last super-resolution stage cost per megapixel, where, and what would cost less?

    python -m benchmarks.upscaler_frontier [--rounds 9] [--json FILE]

Three tables. By engine and precision: milliseconds per megapixel of the bundle's graphs. By
operator: where ONNX Runtime spends them. By network: smaller ones with random weights, exported and
simplified as a release would be, in the same engines; what they would draw is not known, only what
they would cost before anybody trains them.

One thread. Milliseconds are processor time of the process, the least of all rounds: a busy machine
takes turns away from a process, which its clock on the wall counts and its processor time does not.
Needs the extras export and openvino.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn

from benchmarks.lib.record import write_record
from benchmarks.stage_engines import stage_inputs
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.diffusion.family import diffusion_specs
from cascade.engine import Engine
from cascade.engines.factory import EngineChoice, EngineKind, open_engine
from cascade.engines.ort import session_options
from cascade.precision import Precision
from cascade.text.family import text_encoder_of
from cascade.types import Array
from cascade.weights.source import whole_graph
from export.graphs import export_graph
from export.passes.pipeline import optimize
from stages.evaluation.sampling import graph_inputs, graph_outputs
from stages.networks.efficient_unet import BlockConfig, EfficientUNet, UNetConfig
from stages.reference import SR1024, as_released

Inputs = dict[str, Array]
MEGAPIXELS = 1024 * 1024 / 1e6
PATCH = 4


class PlainStack(nn.Module):
    """Convolutions and nothing else, as the winners of efficient super-resolution contests have.

    Branches and norms are merged into the convolutions before a release, so this is what is left:
    3x3 convolutions at a quarter of the size, ReLU, one pixel shuffle. It takes the inputs of a
    stage's graph and looks at the pictures alone.
    """

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(6, channels, 2 * PATCH, stride=PATCH, padding=PATCH // 2)
        self.body = nn.Sequential(
            *(
                part
                for _ in range(layers)
                for part in (nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())
            )
        )
        self.last = nn.Conv2d(channels, 3 * PATCH**2, 3, padding=1)

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        context: Tensor,
        context_mask: Tensor,
        low_res: Tensor,
        aug_level: Tensor,
    ) -> Tensor:
        """`[B, 3, H, W]`; time and text only keep their places among the inputs."""
        unused = (t + aug_level + context.mean((1, 2)) + context_mask.mean(1))[:, None, None, None]
        h = self.body(torch.relu(self.first(torch.cat([x_t, low_res], 1))))
        return low_res + unused * 0 + nn.functional.pixel_shuffle(self.last(h), PATCH)


def unet(stem: int, *blocks: BlockConfig, out: int = 1) -> UNetConfig:
    """The stage's network with other widths and depths."""
    config = as_released(SR1024).unet
    return replace(config, stem_channels=stem, blocks=blocks, out_res_blocks=out)


def level(channels: int, blocks: int, attention: str = "none") -> BlockConfig:
    """One level."""
    return BlockConfig(channels=channels, res_blocks=blocks, attention=attention)  # type: ignore[arg-type]


def candidates() -> Mapping[str, nn.Module]:
    """Networks by what the table calls them; the first is the one released."""
    configs = {
        "released: 64; 64, 96 x 2 with text": as_released(SR1024).unet,
        "without attention to text": unet(64, level(64, 1), level(96, 2)),
        "without the block at the end": unet(64, level(64, 1), level(96, 2, "cross"), out=0),
        "a block less below": unet(64, level(64, 1), level(96, 1, "cross")),
        "48; 48, 96 x 2": unet(48, level(48, 1), level(96, 2, "cross")),
        "32; 48, 96 x 2": unet(32, level(48, 1), level(96, 2, "cross")),
        "32; 32, 64 x 2": unet(32, level(32, 1), level(64, 2, "cross")),
    }
    stacks = {
        f"plain: {layers} convolutions of {channels}": PlainStack(channels, layers)
        for channels, layers in ((64, 6), (48, 8), (48, 4), (32, 6))
    }
    return {**{name: EfficientUNet(config) for name, config in configs.items()}, **stacks}


def stirred(network: nn.Module) -> nn.Module:
    """In evaluation mode, none of its parameters zero throughout: nothing is simplified away."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network.eval().requires_grad_(requires_grad=False)


def graph_of(network: nn.Module) -> bytes:
    """The network exported and simplified, float32."""
    model = export_graph(network, graph_inputs(SR1024), graph_outputs(SR1024))
    optimize(model)
    return bytes(model.SerializeToString())


def processor_ms(engine: Engine, inputs: Inputs) -> float:
    """Processor time of one evaluation."""
    begun = time.process_time()
    engine.run(inputs)
    return 1000 * (time.process_time() - begun)


def raced(
    graphs: Sequence[tuple[str, bytes, EngineKind, Precision]], inputs: Inputs, rounds: int
) -> dict[str, float]:
    """Least milliseconds per megapixel of each, in interleaved rounds after one of warm-up."""
    shapes = {name: value.shape for name, value in inputs.items()}
    engines = {
        name: open_engine(graph, EngineChoice(kind, precision, threads=1, default_shapes=shapes))
        for name, graph, kind, precision in graphs
    }
    taken: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds + 1):
        for name, engine in engines.items():
            taken[name].append(processor_ms(engine, inputs))
    for engine in engines.values():
        engine.close()
    return {name: round(min(found[1:]) / MEGAPIXELS, 1) for name, found in taken.items()}


def by_operator(graph: bytes, inputs: Inputs, rounds: int) -> dict[str, float]:
    """Milliseconds of one evaluation in ONNX Runtime by kind of operator, the most first.

    Each node counts with the least of its rounds: a turn that the processor spent elsewhere falls
    on a few nodes of one round.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(1)
        options.enable_profiling = True
        options.profile_file_prefix = f"{folder}/profile"
        session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        for _ in range(rounds + 1):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text())
    least: dict[str, float] = {}
    kinds: dict[str, str] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name, taken = event["name"], event["dur"] / 1000
            least[name] = min(least.get(name, taken), taken)
            kinds[name] = event["args"]["op_name"]
    total: dict[str, float] = defaultdict(float)
    for name, taken in least.items():
        total[kinds[name]] += taken
    return {kind: round(total[kind], 1) for kind in sorted(total, key=lambda k: -total[k])}


def bundle_graphs(bundle: Bundle) -> list[tuple[str, bytes, EngineKind, Precision]]:
    """The last stage's graphs in every engine that computes them here."""
    spec = diffusion_specs(bundle.manifest.components)[-1]
    held = (Precision.FP32, *(variant.precision for variant in spec.graph.variants))
    files = {precision: whole_graph(bundle.read_graph(spec.graph, precision)) for precision in held}
    return [
        (f"{kind.value} {precision.value}", graph, kind, precision)
        for kind in (EngineKind.ORT, EngineKind.OPENVINO)
        for precision, graph in files.items()
    ]


def frontier(inputs: Inputs, rounds: int) -> dict[str, dict[str, float]]:
    """Every candidate: parameters in millions, and its time in both engines."""
    found = {}
    for name, network in candidates().items():
        graph = graph_of(stirred(network))
        ways = [
            (kind.value, graph, kind, Precision.FP32)
            for kind in (EngineKind.ORT, EngineKind.OPENVINO)
        ]
        size = sum(p.numel() for p in network.parameters()) / 1e6
        found[name] = {"parameters_millions": round(size, 2), **raced(ways, inputs, rounds)}
        print(
            f"{name:40}" + "".join(f"{value:10.2f}" for value in found[name].values()), flush=True
        )
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument("--rounds", type=int, default=9, help="evaluations of each, after one more")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    bundle = open_bundle(args.bundle)
    spec = diffusion_specs(bundle.manifest.components)[-1]
    inputs = stage_inputs(spec, text_encoder_of(bundle.manifest.components).makes.width)
    inputs["t"] = np.ones_like(inputs["t"])
    engines = raced(bundle_graphs(bundle), inputs, args.rounds)
    print("ms per megapixel, one thread:", engines, flush=True)
    operators = {
        precision.value: by_operator(graph, inputs, args.rounds)
        for _, graph, kind, precision in bundle_graphs(bundle)
        if kind is EngineKind.ORT
    }
    print("ms by operator, ONNX Runtime:", operators, flush=True)
    networks = frontier(inputs, args.rounds)
    write_record(args.json, {"engines": engines, "operators": operators, "networks": networks})


if __name__ == "__main__":
    main()
