"""Names for what is added to a graph: a network's own weights may be called `weight_scale` already.

Knows the names in a graph; not what they stand for.
"""

import onnx


class FreshNames:
    """Names that nothing in the given graphs has."""

    def __init__(self, *models: onnx.ModelProto) -> None:
        self._taken = {name for model in models for name in names_in(model)}

    def fresh(self, wanted: str) -> str:
        """The wanted name, or one with a number behind it where that is taken; now it is taken."""
        name, number = wanted, 2
        while name in self._taken:
            name, number = f"{wanted}{number}", number + 1
        self._taken.add(name)
        return name


def names_in(model: onnx.ModelProto) -> set[str]:
    """Every name of a value in a graph."""
    graph = model.graph
    names = {tensor.name for tensor in graph.initializer}
    names |= {info.name for info in (*graph.input, *graph.output)}
    # What nodes read too: of a graph that borrows weights they are in another file.
    return names | {name for node in graph.node for name in (*node.input, *node.output)}
