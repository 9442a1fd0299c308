"""Is a stage of another project faster here than in torch, and what memory did its export take?

    python -m benchmarks.foreign_speed [--quick] [--rounds N] [--json FILE]

A U-Net of DeepFloyd IF's blocks with random weights, about 100 million parameters at 64x64, goes
through `write_cascade` in this process. Its peak of memory is compared with the estimate that the
export printed before it began. Then one evaluation of two rows is timed: this project's graph in
ONNX Runtime and OpenVINO, `torch.compile` in float32 and bfloat16 (settings: as it comes; weights
frozen and channels last), and OpenVINO's own conversion of the torch module. Rounds are interleaved
(A B C A B C), two evaluations of each are warm-up, medians count. The load of the machine is
printed before and after. A processor without bfloat16 is asked for float32 alone. `--quick` is a
network of 3 million parameters at 32x32. Needs the extras cpu, openvino, train, export and foreign,
and a C++ compiler for torch.compile.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.lib.record import write_record
from cascade.bundle.bundle import open_bundle
from cascade.diffusion.family import diffusion_specs
from cascade.diffusion.spec import ThresholdSpec
from cascade.engines.openvino import OpenVinoEngine
from cascade.engines.ort import OrtEngine
from cascade.errors import EngineError
from cascade.precision import Precision
from cascade.types import Array
from cascade.weights.source import GraphSource
from examples.my_cascade import tokenizer
from export.bundle_writer import write_cascade
from export.components.component import ExportOptions
from export.description import CascadeDescription, StageDescription, TextEncoderDescription
from export.memory_estimate import estimate_memory

TRAIN_STEPS = 1000
TOKENS, WIDTH = 77, 512
ROWS = 2
"""With words and without."""
WARM_UP = 2
WANTED = 1.3
"""Times as fast as torch.compile in the same precision."""

OURS_BF16 = "ours, OpenVINO bf16"
"""Where a processor has no bfloat16, torch computes in it all the same, for minutes."""

Run = Callable[[], Array]


@dataclass(frozen=True, slots=True)
class NetworkSize:
    """One network."""

    pixels: int
    widths: tuple[int, ...]
    layers: int


FULL = NetworkSize(64, (128, 256, 384, 512), 2)
QUICK = NetworkSize(32, (32, 64), 1)


class Words(nn.Module):
    """Seven words to embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, WIDTH)

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        """`[B, L, WIDTH]`."""
        found: Tensor = self.table(token_ids) * token_mask[:, :, None]
        return found


class InputContract(nn.Module):
    """A U-Net behind the input contract."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x_t: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """The prediction `[B, 3, H, W]`."""
        steps = t * TRAIN_STEPS - 1
        found: Tensor = self.unet(x_t, steps, encoder_hidden_states=context, return_dict=False)[0]
        return found


def network(size: NetworkSize) -> InputContract:
    """IF's blocks of a size, weights random."""
    from diffusers import UNet2DConditionModel  # noqa: PLC0415  seconds, after the arguments

    torch.manual_seed(0)
    inner = len(size.widths) - 1
    unet = UNet2DConditionModel(
        sample_size=size.pixels,
        in_channels=3,
        out_channels=3,
        layers_per_block=size.layers,
        block_out_channels=size.widths,
        down_block_types=("ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * inner),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=(*["SimpleCrossAttnUpBlock2D"] * inner, "ResnetUpsampleBlock2D"),
        cross_attention_dim=size.widths[-1],
        cross_attention_norm="group_norm",
        encoder_hid_dim=WIDTH,
        encoder_hid_dim_type="text_proj",
        attention_head_dim=size.widths[0] // 2,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
        time_embedding_act_fn="gelu",
        act_fn="gelu",
    )
    return InputContract(unet).eval().requires_grad_(requires_grad=False)


def described(stage: InputContract, size: NetworkSize) -> CascadeDescription:
    """The network as a cascade of one stage."""
    return CascadeDescription(
        stages=(
            StageDescription(
                name="base",
                network=stage,
                output_resolution=size.pixels,
                steps=1,
                prediction="epsilon",
                schedule="linear",
                threshold=ThresholdSpec(kind="static"),
                null_text="",
                uses_mask=False,
            ),
        ),
        licence="CC0-1.0",
        provenance="random numbers",
        prompts=("a red circle", "a green circle"),
        text_encoder=TextEncoderDescription(
            network=Words().eval(),
            tokenizer=tokenizer(),
            max_tokens=TOKENS,
            context_width=WIDTH,
            pad_token=0,
            provenance="a table of seven words",
        ),
    )


def status(name: str) -> int:
    """Bytes of a line of this process's status, such as VmHWM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


def exported(
    stage: InputContract, size: NetworkSize, folder: Path
) -> tuple[GraphSource, dict[str, float]]:
    """The stage's graph, its weights in a file of `folder`, and what its export took."""
    description = described(stage, size)
    estimate = estimate_memory(description, ExportOptions())
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # begins the peak anew
    begun = time.perf_counter()
    write_cascade(description, folder / "bundle", report=partial(print, flush=True))
    seconds, peak = time.perf_counter() - begun, status("VmHWM") - before
    bundle = open_bundle(folder / "bundle")
    (spec,) = diffusion_specs(bundle.manifest.components)
    figures = {
        "export_s": seconds,
        "estimate_gb": estimate.total / 1e9,
        "measured_gb": peak / 1e9,
        "estimate_by_measured": estimate.total / peak,
    }
    return bundle.read_graph(spec.graph, Precision.FP32), figures


def inputs_of(size: NetworkSize) -> dict[str, Array]:
    """One evaluation, by name: float32 with two rows."""
    rng = np.random.default_rng(0)
    return {
        "x_t": rng.standard_normal((ROWS, 3, size.pixels, size.pixels)).astype(np.float32),
        "t": np.full(ROWS, 0.5, np.float32),
        "context": rng.standard_normal((ROWS, TOKENS, WIDTH)).astype(np.float32),
    }


def of_engine(make: Callable[[], Any], inputs: Mapping[str, Array]) -> Run:
    """This project's graph in one of its engines."""
    engine = make()
    return lambda: np.asarray(engine.run(inputs)["prediction"])


def of_torch(stage: InputContract, inputs: Mapping[str, Array], *, bf16: bool, frozen: bool) -> Run:
    """torch.compile."""
    given = {name: torch.from_numpy(value) for name, value in inputs.items()}
    network: Any = stage
    if frozen:
        network = network.to(memory_format=torch.channels_last)
        given["x_t"] = given["x_t"].to(memory_format=torch.channels_last)
    options = {"freezing": True} if frozen else {}
    compiled = torch.compile(network, dynamic=False, options=options)

    def run() -> Array:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            return np.asarray(compiled(**given).float().numpy())

    return run


def of_openvino(stage: InputContract, inputs: Mapping[str, Array]) -> Run:
    """OpenVINO's own conversion of the torch module."""
    import openvino  # noqa: PLC0415  seconds

    given = {name: torch.from_numpy(value) for name, value in inputs.items()}
    converted = openvino.convert_model(stage, example_input=given)
    # Its shapes stay free: with whole ones OpenVINO 2026.4 ends the process as it compiles it.
    compiled = openvino.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda: np.asarray(next(iter(compiled(inputs).values())))


def contestants(
    stage: InputContract, graph: GraphSource, inputs: Mapping[str, Array], *, quick: bool
) -> dict[str, Run]:
    """Every way that this machine has, ready to run."""
    shapes = {name: value.shape for name, value in inputs.items()}
    ours = partial(OpenVinoEngine, graph, default_shapes=shapes)
    frozen = () if quick else (True,)
    made: dict[str, Callable[[], Run]] = {
        "ours, ONNX Runtime fp32": partial(of_engine, partial(OrtEngine, graph), inputs),
        "ours, OpenVINO fp32": partial(of_engine, ours, inputs),
        OURS_BF16: partial(of_engine, partial(ours, precision=Precision.BF16), inputs),
        "openvino.convert_model fp32": partial(of_openvino, stage, inputs),
    }
    for bf16 in (False, True):
        for is_frozen in (False, *frozen):
            name = f"torch.compile {'bf16' if bf16 else 'fp32'}{', frozen' if is_frozen else ''}"
            made[name] = partial(of_torch, stage, inputs, bf16=bf16, frozen=is_frozen)
    ready = {}
    for name, make in made.items():
        if name.startswith("torch") and "bf16" in name and OURS_BF16 not in ready:
            print(f"{name}: left out: nothing to compare with", flush=True)
            continue
        try:
            ready[name] = make()
            for _ in range(WARM_UP):
                ready[name]()
        except EngineError as missing:
            print(f"{name}: left out: {missing}", flush=True)
            ready.pop(name, None)
    return ready


def race(ready: Mapping[str, Run], rounds: int) -> dict[str, float]:
    """Median seconds of each, in interleaved rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(rounds):
        for name, run in ready.items():
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
    return {name: float(np.median(found)) for name, found in seconds.items()}


def distances(ready: Mapping[str, Run]) -> dict[str, float]:
    """Largest difference of each answer from torch.compile's in float32, a share of its range."""
    wanted = ready["torch.compile fp32"]()
    span = float(wanted.max() - wanted.min())
    return {name: float(np.abs(run() - wanted).max()) / span for name, run in ready.items()}


def ratios(medians: Mapping[str, float]) -> dict[str, float]:
    """How many times as fast as torch.compile and OpenVINO's conversion ours is, by precision."""
    found = {}
    for precision in ("fp32", "bf16"):
        by = {
            side: [s for name, s in medians.items() if name.startswith(side) and precision in name]
            for side in ("ours", "torch", "openvino")
        }
        for side in ("torch", "openvino"):
            if by["ours"] and by[side]:
                found[f"{side} {precision}"] = min(by[side]) / min(by["ours"])
    return found


def main() -> int:
    """Export, race, print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small network")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    # Threads that wait by spinning would take the cores from the next one.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    size = QUICK if args.quick else FULL
    stage, inputs = network(size), inputs_of(size)
    count = sum(parameter.numel() for parameter in stage.parameters())
    print(f"{count / 1e6:.1f} million parameters, {size.pixels}x{size.pixels}, load {load()}")
    with tempfile.TemporaryDirectory() as folder:
        graph, memory = exported(stage, size, Path(folder))
        print(", ".join(f"{name} {value:.2f}" for name, value in memory.items()), flush=True)
        ready = contestants(stage, graph, inputs, quick=args.quick)
        far, medians = distances(ready), race(ready, args.rounds)
    for name, seconds in sorted(medians.items(), key=lambda pair: pair[1]):
        print(f"{name:32} {1000 * seconds:9.1f} ms   {far[name]:.1e} of the range")
    faster = ratios(medians)
    for name, times in faster.items():
        wanted = f", wanted {WANTED}" if name.startswith("torch") else ""
        print(f"ours is {times:.2f} times as fast as {name}{wanted}")
    print(f"load {load()}")
    figures = {"parameters": count, "memory": memory, "median_s": medians, "times": faster}
    write_record(args.json, {**figures, "load": os.getloadavg()})
    return 0


def load() -> str:
    """Processes that ran or waited in the last minute."""
    return f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


if __name__ == "__main__":
    raise SystemExit(main())
