"""A stage of pixels by groups with random exact weights: its graphs, and ways to make its picture.

Processor time of the thread that does everything. Knows presets and engines; not what is compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from benchmarks.lib.picture_parts import PictureParts
from cascade.engine import Engine
from cascade.engines.factory import EngineChoice, open_engine
from cascade.engines.kinds import EngineKind
from cascade.pixels.logits import Logits
from cascade.pixels.mixture import Sharpness
from cascade.pixels.order import OrderSpec
from cascade.pixels.pictures import Drawn, Pictures
from cascade.pixels.scheme import PassScheme
from cascade.pixels.spec import HEADS, PASS, PixelAugmentation
from cascade.pixels.words import words_of_digits
from cascade.precision import Precision
from cascade.types import Array
from export.components.component import make_graph
from export.components.pixels import body_cases, body_source, heads_source
from export.description import PixelStageDescription
from stages.evaluation.torch_engine import TorchEngine
from stages.networks.exact import frozen, project
from stages.networks.subscale_network import AnyPixelNetwork
from stages.pixel_presets import PixelPreset
from tests.support.hashed_heads import AROUND
from tests.support.pixel_bundle import Shape, body_graph, heads_graph

TOKENS = 6
"""Of the made-up text."""
SHARPNESS = Sharpness(temperature_16=12, floor_16=1)
"""As the stages of `cascade train` are sampled by default."""


@dataclass(frozen=True)
class TimedStage:
    """One stage and what it starts from.

    Attributes:
        scheme: how its picture is divided into passes.
        size: height and width of the picture.
        engines: its graphs on ONNX Runtime, one thread.
        eager: its networks in torch, one thread; empty where there are none.
        shared: inputs of the body that are the same in every pass.
    """

    scheme: PassScheme
    size: int
    engines: Mapping[str, Engine]
    eager: Mapping[str, Engine] = field(default_factory=dict)
    shared: Mapping[str, Array] = field(default_factory=dict)

    def picture(self, kind: type[Pictures], engines: Mapping[str, Engine]) -> PictureParts:
        """Where the time of one picture went; `kind` decides."""
        spent, parent = PictureParts(), parent_of(self.scheme, self.size)

        def begun() -> tuple[Pictures, Drawn]:
            words = words_of_digits(self.size**2 * 3, 2, seed=1, image=0, stage=1)
            return kind(self.scheme, (self.size, self.size), parent), Drawn(words)

        pictures, drawn = spent.timed("host", begun)
        for step in pictures.passes:
            body = {**spent.timed("host", lambda step=step: pictures.begin(step.index))}
            body |= self.shared
            made = spent.timed("body", lambda body=body: engines[PASS].run(body))
            for channel in step.channels:
                asked = spent.timed("host", lambda channel=channel: pictures.heads_inputs(channel))
                inputs = {**asked, "features": made["features"]}
                found = spent.timed("heads", lambda inputs=inputs: engines[HEADS].run(inputs))
                logits = Logits(*(found[name][0] for name in ("high", "low", "copy")))
                spent.timed(
                    "host",
                    lambda c=channel, logits=logits: pictures.decide(c, logits, drawn, SHARPNESS),
                )
        return spent


def parent_of(scheme: PassScheme, size: int) -> Array | None:
    """Squares of few colours, `[1, size / 2, size / 2, 3]` uint8; None of a first stage."""
    if scheme.parent == "none":
        return None
    rng = np.random.default_rng(size)
    palette = rng.integers(0, 256, (6, 3)).astype(np.uint8)
    small = palette[rng.integers(0, 6, (size // 8, size // 8))]
    return np.ascontiguousarray(small.repeat(4, axis=0).repeat(4, axis=1))[None]


def text_inputs(width: int) -> dict[str, Array]:
    """A made-up text of `width` channels, none of 0, and no falsification told."""
    level = {"aug_level": np.zeros(1, np.float32)}
    if width == 0:
        return level
    text = np.random.default_rng(0).standard_normal((1, TOKENS, width)).astype(np.float16)
    return {
        "context": text.astype(np.float32),
        "context_mask": np.ones((1, TOKENS), np.float32),
        **level,
    }


def random_network(preset: PixelPreset) -> AnyPixelNetwork:
    """Frozen, exact, none of its layers silent."""
    torch.manual_seed(0)
    network = preset.network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    project(network)
    return frozen(network)


def preset_stage(preset: PixelPreset) -> TimedStage:
    """A stage of `cascade train` on ONNX Runtime and in torch."""
    torch.set_num_threads(1)
    network = random_network(preset)
    described = PixelStageDescription(
        name=preset.name,
        body=network.body,
        heads=network.heads,
        features=preset.config.features,
        scheme=preset.scheme,
        output_resolution=preset.resolution,
        input_resolution=preset.low_resolution,
        uses_context=preset.context_width > 0,
        augmentation=PixelAugmentation(lowest=0.0, highest=1.0, default=0.0),
    )
    body = TorchEngine(network.body, "features")
    features = [body.run(case)["features"] for case in body_cases(described, preset.context_width)]
    asked = heads_source(described, features)
    sources = {PASS: body_source(described, preset.context_width), HEADS: asked}
    graphs = {role: make_graph(source, lambda _: None).stored for role, source in sources.items()}
    answers = [output.name for output in asked.outputs]
    eager = {PASS: body, HEADS: TorchEngine(network.heads, *answers)}
    shared = text_inputs(preset.context_width)
    return TimedStage(preset.scheme, preset.resolution, opened(graphs), eager, shared)


def small_stage(order: OrderSpec, size: int) -> TimedStage:
    """A first stage of two small convolutions per pass, in any order."""
    scheme = PassScheme(parent="none", order=order, guess="zero", canvas_copies=AROUND)
    shape = Shape(scheme, size, words=False)
    graphs = {PASS: body_graph(shape, 1)[0], HEADS: heads_graph(shape, 1)[0]}
    return TimedStage(scheme, size, opened(graphs))


def opened(graphs: Mapping[str, bytes]) -> dict[str, Engine]:
    """Engines of graphs by role."""
    choice = EngineChoice(EngineKind.ORT, Precision.FP32, 1)
    return {role: open_engine(graph, choice) for role, graph in graphs.items()}
