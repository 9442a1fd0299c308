"""The parts of `benchmarks.gpu_run`, each in a process of its own: one may hang, or crash a driver.

    python -m benchmarks.lib.gpu_parts PART --out FILE [--small] [--device cpu]

Every figure is written the moment it is there, so a part that is stopped leaves what it had. Needs
torch and numpy; the part `engine` also onnx, and ONNX Runtime or TensorRT. Weights are random: time
does not depend on them.
"""

import argparse
import hashlib
import importlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.networks.efficient_unet import BlockConfig, EfficientUNet, UNetConfig
from stages.networks.exact import frozen, project
from stages.networks.pixel_network import PixelNetConfig, PixelNetwork

Figure = tuple[str, Any]
TOKENS = 77
WARM_UP, ROUNDS = 3, 20
SAMPLES = 8
IMAGEN = UNetConfig(
    stem_channels=128,
    blocks=(
        BlockConfig(channels=128, res_blocks=2),
        BlockConfig(channels=256, res_blocks=4),
        BlockConfig(channels=512, res_blocks=8),
        BlockConfig(channels=1024, res_blocks=8, attention="self"),
    ),
    context_width=1024,
    text_width=512,
    vector_width=512,
    head_channels=64,
    upscales=True,
)
"""Channels and depths of Imagen's 64 to 256 stage (arXiv 2205.11487): 462 million parameters with
our blocks; Imagen says 600."""
SMALL = UNetConfig(
    stem_channels=8,
    blocks=(
        BlockConfig(channels=8, res_blocks=1),
        BlockConfig(channels=16, res_blocks=1, attention="self"),
    ),
    context_width=16,
    text_width=16,
    vector_width=16,
    head_channels=8,
    upscales=True,
)
"""The same kinds of layers in a second of a processor."""


class StageCase:
    """One network, its inputs, and where they are."""

    def __init__(self, device: str, *, small: bool) -> None:
        """Random weights and inputs of a fixed seed.

        Args:
            device: `cuda` or `cpu`.
            small: whether it is the small one.
        """
        torch.manual_seed(0)
        config, size = (SMALL, 16) if small else (IMAGEN, 256)
        self.device = device
        self.rounds = 2 if small else ROUNDS
        if small:
            torch.set_num_threads(1)
        network = EfficientUNet(config).eval().requires_grad_(requires_grad=False)
        for parameter in network.parameters():
            if not parameter.any():  # a fresh network is silent: nothing would be compared
                parameter.normal_(0, 0.02)
        self.network = network.to(device)
        image = (1, 3, size, size)
        self.inputs = {
            "x_t": torch.randn(image),
            "t": torch.full((1,), 0.5),
            "context": torch.randn(1, TOKENS, config.context_width),
            "context_mask": torch.ones(1, TOKENS),
            "low_res": torch.rand(image) * 2 - 1,
            "aug_level": torch.full((1,), 0.05),
        }
        self.placed = {name: value.to(device) for name, value in self.inputs.items()}

    def seconds(self, run: Callable[[], object]) -> float:
        """Median of one evaluation, after a warm-up that compiles."""
        for _ in range(WARM_UP):
            run()
        found = []
        for _ in range(self.rounds):
            self._settle()
            begun = time.perf_counter()
            run()
            self._settle()
            found.append(time.perf_counter() - begun)
        return statistics.median(found)

    def _settle(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def use_tf32(*, on: bool) -> None:
    """Whether float32 products of a GPU may round to ten bits of mantissa."""
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on


def torch_part(device: str, *, small: bool) -> Iterator[Figure]:
    """Eager and compiled, in float32 with TF32 on and off and in bfloat16."""
    case = StageCase(device, small=small)
    yield "parameters", sum(p.numel() for p in case.network.parameters())

    def evaluate(network: Any, *, half: bool) -> Any:
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=half):
            return network(**case.placed).float()

    use_tf32(on=False)
    truth = evaluate(case.network, half=False)
    # The small one shows the way; a C++ compiler is not for a test to wait for.
    backend = "eager" if small else "inductor"
    ways = {
        "eager fp32": (False, False),
        "eager fp32 with TF32": (False, True),
        "eager bf16": (True, True),
        "torch.compile bf16": (True, True),
        "torch.compile fp32": (False, False),
    }
    network: Any = case.network
    for name, (half, tf32) in ways.items():
        if "compile" in name:
            network = torch.compile(case.network, dynamic=False, backend=backend)
        use_tf32(on=tf32)
        apart = (evaluate(network, half=half) - truth).abs().max()
        median_s = case.seconds(lambda n=network, h=half: evaluate(n, half=h))  # type: ignore[misc]
        yield name, {"median_s": median_s, "max_abs_to_fp32": float(apart)}


class HalfInside(torch.nn.Module):
    """The network in half precision, its inputs and outputs in single."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """As `EfficientUNet.forward`, in its order."""
        made: torch.Tensor = self.network(*(value.half() for value in inputs)).float()
        return made


def engine_part(device: str, *, small: bool) -> Iterator[Figure]:
    """Every GPU engine that imports, on the exported graph; ONNX Runtime on a processor."""
    kinds = importlib.import_module("cascade.engines.factory")
    wanted = ("tensorrt", "ort-tensorrt", "ort-cuda") if device == "cuda" else ("ort",)
    there = [kind for kind in kinds.installed_kinds() if str(kind) in wanted]
    if not there:
        yield "problem", f"none of {', '.join(wanted)} is installed here"
        return
    case = StageCase(device, small=small)
    with torch.no_grad():
        truth = case.network(**case.placed).float().cpu().numpy()
    network = HalfInside(case.network.cpu()) if device == "cuda" else case.network
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stage.onnx"
        begun = time.perf_counter()
        torch.onnx.export(
            network, tuple(case.inputs.values()), file, dynamo=False,
            input_names=list(case.inputs), output_names=["prediction"],
        )  # fmt: skip
        graph = file.read_bytes()
        yield "export_s", time.perf_counter() - begun
        for kind in there:
            yield str(kind), engine_figures(kind, graph, case, truth, Path(folder) / "cache")


def engine_figures(
    kind: Any, graph: bytes, case: StageCase, truth: np.ndarray[Any, Any], cache: Path
) -> dict[str, Any]:
    """Seconds to open, of an evaluation, and how far from float32; or why there are none."""
    from cascade.engines.factory import EngineChoice, open_engine  # noqa: PLC0415
    from cascade.errors import CascadeError  # noqa: PLC0415
    from cascade.precision import Precision  # noqa: PLC0415

    builds = "tensorrt" in str(kind)
    choice = EngineChoice(kind, Precision.FP16 if builds else Precision.FP32)
    inputs = {name: value.numpy() for name, value in case.inputs.items()}
    cache.mkdir(mode=0o700, exist_ok=True)
    try:
        begun = time.perf_counter()
        engine = open_engine(graph, choice, cache=cache)
        found = engine.run(inputs)["prediction"]
        opened = time.perf_counter() - begun
        median_s = case.seconds(lambda: engine.run(inputs))
        engine.close()
    except CascadeError as exc:
        return {"problem": str(exc)}
    return {
        "open_s": opened,
        "median_s": median_s,
        "max_abs_to_fp32": float(np.abs(found - truth).max()),
    }


def exact_network(*, small: bool) -> PixelNetwork:
    """Layers on the grid of `stages.networks.exact`, their weights random."""
    torch.manual_seed(0)
    config = PixelNetConfig(
        resolution=16, cell=2, has_parent=False, width=16 if small else 256,
        blocks=1 if small else 8, passes=4, candidates=4, context_width=0,
    )  # fmt: skip
    network = PixelNetwork(config)
    project(network)
    return frozen(network.eval())


def exact_part(device: str, *, small: bool) -> Iterator[Figure]:
    """Hashes of an exact component's numbers: on the processor, then with TF32 off and on."""
    network = exact_network(small=small)
    generator = torch.Generator().manual_seed(1)
    canvas = torch.randint(0, 256, (SAMPLES, 3, 16, 16), generator=generator).float()
    asked = {
        "canvas": canvas,
        "known": torch.randint(0, 2, (SAMPLES, 1, 16, 16), generator=generator).float(),
        "pass_index": torch.arange(SAMPLES) % 4,
        "targets": torch.arange(64).expand(SAMPLES, -1),
        "aug_level": torch.zeros(SAMPLES),
    }
    truth = features_hash(network, asked, "cpu", 1)
    yield "processor", {"sha256": truth, "rows": 1}
    for on in (False, True):
        use_tf32(on=on)
        for rows in (1, SAMPLES):
            found = features_hash(network, asked, device, rows)
            name = f"{device}, TF32 {'on' if on else 'off'}, rows {rows}"
            yield name, {"sha256": found, "rows": rows, "tf32": on, "equal": found == truth}


def features_hash(
    network: PixelNetwork, asked: Mapping[str, torch.Tensor], device: str, rows: int
) -> str:
    """SHA-256 of the features `[B, n, F]` of all samples, so many at once."""
    body = network.body.to(device)
    digest = hashlib.sha256()
    with torch.no_grad():
        for first in range(0, SAMPLES, rows):
            some = {k: v[first : first + rows].contiguous().to(device) for k, v in asked.items()}
            digest.update(np.ascontiguousarray(body(**some).cpu().numpy()).tobytes())
    return digest.hexdigest()


PARTS: Mapping[str, Callable[..., Iterator[Figure]]] = {
    "exact": exact_part,
    "torch": torch_part,
    "engine": engine_part,
}


def main() -> None:
    """One part; its figures so far are in the file at any moment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    args = parser.parse_args()
    figures: dict[str, Any] = {}
    for name, value in PARTS[args.part](args.device, small=args.small):
        figures[name] = value
        args.out.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
