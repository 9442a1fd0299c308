"""Static int8 of a graph: chosen layers multiply eight-bit numbers, everything else stays float32.

Written as pairs of QuantizeLinear and DequantizeLinear of the standard domain around the layers'
inputs and DequantizeLinear on their weights, which ONNX Runtime, OpenVINO and TensorRT turn into
integer kernels. Requires: float32 layers with constant weights (`find_layers`) and a range for each
activation. Ensures: one pair per activation however many layers share it; int8 weights symmetric
per output channel, a weight that already lies on such a grid keeps its very numbers; int32 biases.
Knows the graph and the ranges; not how either was made nor what is worth quantising.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from export.fresh_names import FreshNames
from export.quantize.layers import Layer, array, constants
from export.quantize.ranges import Quantization
from export.weights.weight_grid import GridWeight, choose_grid, find_grid


@dataclass(frozen=True, slots=True)
class Counts:
    """What was written: layers in int8, pairs on activations."""

    layers: int
    pairs: int


@dataclass(frozen=True, slots=True)
class LayerLevels:
    """Levels by tensor name.

    Attributes:
        inputs: for every layer's input.
        outputs: for the outputs that get a pair of their own. ONNX Runtime needs it for integer
            convolutions; it costs accuracy, and OpenVINO does without.
    """

    inputs: Mapping[str, Quantization]
    outputs: Mapping[str, Quantization] = field(default_factory=dict)


def quantize(model: onnx.ModelProto, layers: Sequence[Layer], levels: LayerLevels) -> Counts:
    """Quantise the given layers, in place.

    Args:
        model: a float32 graph.
        layers: which layers; from `find_layers` of the same graph.
        levels: at least for these layers' inputs.
    """
    writer = Writer(model)
    chosen = {layer.name: layer for layer in layers}
    for node in list(model.graph.node):
        layer = chosen.get(node.output[0])
        if layer is not None:
            # Before the node itself goes in: pairs stand in front of their first reader, as ONNX's
            # order wants.
            writer.quantize_layer(node, layer, levels.inputs[layer.activation])
        writer.nodes.append(node)
        if layer is not None and layer.name in levels.outputs:
            writer.pair_after(node, levels.outputs[layer.name])
    writer.finish()
    return Counts(len(chosen), len(writer.pairs) + len(writer.paired_outputs))


class Writer:
    """Builds the new node list, each new node just before its first user."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.stored = constants(model)
        self.names = FreshNames(model)
        self.nodes: list[NodeProto] = []
        self.pairs: dict[str, str] = {}
        self.paired_outputs: set[str] = set()
        self.weights: dict[tuple[str, int], tuple[GridWeight, str]] = {}

    def quantize_layer(self, node: NodeProto, layer: Layer, levels: Quantization) -> None:
        """Let one node read the eight-bit forms of its inputs."""
        node.input[0] = self.pair(layer.activation, levels)
        grid, node.input[1] = self.weight(layer)
        if layer.bias is not None:
            # An integer kernel adds the bias to its sum of products: it must lie on that product's
            # own grid.
            node.input[2] = self.bias(layer, np.float32(levels.scale) * grid.steps)

    def add(self, name: str, value: np.ndarray) -> str:
        """A new initialiser of any shape; its name."""
        name = self.names.fresh(name)
        self.model.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def parameters(self, name: str, levels: Quantization) -> list[str]:
        """Scale and zero point of one activation as initialisers."""
        dtype = np.int8 if levels.kind == "int8" else np.uint8
        return [
            self.add(f"{name}_scale", np.array(levels.scale, np.float32)),
            self.add(f"{name}_zero", np.array(levels.zero_point, dtype)),
        ]

    def pair(self, name: str, levels: Quantization) -> str:
        """The activation after a pair; made once, shared by all its users."""
        # The layer before gave its output a pair under this name: a second would round what is
        # rounded.
        if name in self.paired_outputs:
            return name
        if name not in self.pairs:
            self.pairs[name] = self.write_pair(name, self.names.fresh(f"{name}_dq"), levels)
        return self.pairs[name]

    def write_pair(self, source: str, result: str, levels: Quantization) -> str:
        """Quantise `source` and give it back as `result`."""
        rest = self.parameters(result, levels)
        ends = [self.add(f"{result}_{i}", np.array(v, np.float32)) for i, v in limits(levels)]
        if ends:
            # The type has 256 levels; only the lower half may occur.
            cut = self.names.fresh(f"{result}_cut")
            self.nodes.append(helper.make_node("Clip", [source, *ends], [cut]))
            source = cut
        quantized = self.names.fresh(f"{result}_q")
        self.nodes += [
            helper.make_node("QuantizeLinear", [source, *rest], [quantized]),
            helper.make_node("DequantizeLinear", [quantized, *rest], [result]),
        ]
        return result

    def pair_after(self, node: NodeProto, levels: Quantization) -> None:
        """A pair on a layer's output, under the output's old name."""
        name = node.output[0]
        # The pair takes the old name, so that no reader, and no output of the graph, has to be
        # told.
        node.output[0] = self.names.fresh(f"{name}_float")
        self.paired_outputs.add(name)
        self.write_pair(node.output[0], name, levels)

    def weight(self, layer: Layer) -> tuple[GridWeight, str]:
        """The weight's grid and the name of its dequantised form."""
        # By the axis too: tied weights are read as rows by one layer and as columns by another.
        key = (layer.weight, layer.channel_axis)
        if key not in self.weights:
            value = array(self.stored[layer.weight])
            # A released weight lies on a grid already: taken as it is, both forms multiply the same
            # numbers.
            grid = find_grid(value, layer.channel_axis) or choose_grid(value, layer.channel_axis)
            name = f"{layer.weight}_dq"
            if [k for k in self.weights if k[0] == layer.weight]:
                name = f"{name}{layer.channel_axis}"
            name = self.names.fresh(name)
            inputs = [
                self.add(f"{name}_levels", grid.levels),
                self.add(f"{name}_steps", grid.steps),
            ]
            self.nodes.append(
                helper.make_node("DequantizeLinear", inputs, [name], axis=layer.channel_axis)
            )
            self.weights[key] = (grid, name)
        return self.weights[key]

    def bias(self, layer: Layer, steps: np.ndarray) -> str:
        """The bias as whole numbers of input scale times weight step, `[channels]` float32."""
        # In double precision: the quotient is up to 2^31, of which float32 holds 24 bits.
        value = array(self.stored[str(layer.bias)]).astype(np.float64)
        limit = float(np.iinfo(np.int32).max)
        levels = np.clip(np.rint(value / steps), -limit, limit).astype(np.int32)
        name = self.names.fresh(f"{layer.name}_bias")
        inputs = [self.add(f"{name}_levels", levels), self.add(f"{name}_steps", steps)]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [name], axis=0))
        return name

    def finish(self) -> None:
        """Put the nodes in, drop initialisers that nobody reads any more."""
        graph = self.model.graph
        del graph.node[:]
        graph.node.extend(self.nodes)
        used = {name for node in graph.node for name in node.input}
        used |= {info.name for info in graph.output}
        kept = [t for t in graph.initializer if t.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        # Last, as the checker also refuses nodes that stand before what they read.
        onnx.checker.check_model(self.model)


def limits(levels: Quantization) -> list[tuple[str, float]]:
    """The real numbers at the ends of the levels, where the type has more levels than are used."""
    if levels.kind != "uint7":
        return []
    return [
        ("least", -levels.zero_point * levels.scale),
        ("most", (127 - levels.zero_point) * levels.scale),
    ]
