"""An ONNX graph while it is rewritten: who makes a value, who reads it, what is constant.

Passes add nodes and redirect readers; `finish` drops what nobody reads any more and puts the rest
in order. Knows graphs as such; not what a pass is after, nor what is fast.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from export.passes.constants import fold
from export.passes.shape_rules import Shape
from export.passes.shapes import Shapes

MICROSOFT = "com.microsoft"
"""ONNX Runtime's own operator domain."""


class GraphEditor:
    """One model under rewriting. Not for graphs with subgraphs: the stages have none."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.graph = model.graph
        self.nodes: list[NodeProto] = list(model.graph.node)
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self._makers = {name: node for node in self.nodes for name in node.output}
        self._users: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in set(node.input):
                self._users.setdefault(name, []).append(node)
        self._outputs = {info.name for info in self.graph.output}
        # One name space for all three: ONNX's single assignment knows no difference between them.
        self._names = {*self._makers, *self._initializers, *(i.name for i in self.graph.input)}
        self._shapes: Shapes | None = None
        self._folded: dict[str, NDArray[Any]] | None = None
        self._made: dict[tuple[Any, ...], str] = {}

    def of_type(self, *kinds: str) -> Iterator[NodeProto]:
        """The nodes of these operators that were there when the pass began."""
        # A copy: the pass that walks over it adds nodes, which it must not meet again.
        return iter([node for node in self.nodes if node.op_type in kinds])

    def maker(self, name: str, kind: str = "") -> NodeProto | None:
        """The node that makes a value; None if it is an input or constant, or of another kind."""
        node = self._makers.get(name)
        return node if node is not None and kind in ("", node.op_type) else None

    def users(self, name: str) -> list[NodeProto]:
        """The nodes that read a value."""
        return self._users.get(name, [])

    def only_user(self, name: str, kind: str) -> NodeProto | None:
        """The one node that reads a value, if it is the only one and of that kind."""
        users = self.users(name)
        # An output of the graph has a reader that is no node: who fuses over it would take it away.
        if len(users) != 1 or users[0].op_type != kind or name in self._outputs:
            return None
        return users[0]

    def constant(self, name: str) -> NDArray[Any] | None:
        """The value of a constant, or of what nodes make of small ones; None if it is neither."""
        if name in self._initializers:
            return numpy_helper.to_array(self._initializers[name])
        if self._folded is None:
            self._folded = {}
            # In the graph's order, which is topological: what a node folds from was folded before
            # it.
            for node in self.model.graph.node:
                value = fold(node, self.constant)
                if value is not None:
                    self._folded[node.output[0]] = value
        return self._folded.get(name)

    def shape(self, name: str) -> Shape | None:
        """Axes of a value as they were when a pass first asked: what is equal is proven equal."""
        return self._known().shape(name)

    def is_float(self, name: str) -> bool:
        """Whether a value is proven to be of float32."""
        return self._known().is_float(name)

    def add_constant(self, value: NDArray[Any], hint: str) -> str:
        """A new constant of any shape; the same value is stored once."""
        # By bytes, not by value: 0.0 and -0.0 are equal and divide differently, NaN equals nothing.
        key = ("constant", value.dtype.str, value.shape, value.tobytes())
        if key not in self._made:
            name = self._fresh(hint)
            self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
            self._made[key] = name
        return self._made[key]

    def integers(self, *values: int) -> str:
        """A constant list of int64: axes, shapes, sizes."""
        return self.add_constant(np.array(values, np.int64), "ints")

    def add(self, kind: str, inputs: Sequence[str], *, domain: str = "", **attributes: Any) -> str:
        """A new node with one output; an equal one that this editor made is used again."""
        # By repr, for attributes may be lists, which cannot be hashed.
        key = (kind, domain, tuple(inputs), repr(sorted(attributes.items())))
        if key not in self._made:
            (self._made[key],) = self.add_many(kind, inputs, 1, domain=domain, **attributes)
        return self._made[key]

    def add_many(
        self, kind: str, inputs: Sequence[str], count: int, *, domain: str = "", **attributes: Any
    ) -> list[str]:
        """A new node with several outputs."""
        outputs = [self._fresh(kind.lower()) for _ in range(count)]
        node = helper.make_node(kind, list(inputs), outputs, domain=domain, **attributes)
        self.nodes.append(node)
        for name in outputs:
            self._makers[name] = node
        # A set, so that a node which reads one value twice (x * x) is one user of it.
        for name in set(inputs):
            self._users.setdefault(name, []).append(node)
        return outputs

    def first_of(self, key: tuple[Any, ...], name: str) -> str:
        """The first name given for a key: what later ones of the same key may share."""
        return self._made.setdefault(("first", *key), name)

    def replace(self, old: str, new: str) -> None:
        """Let everyone who reads `old` read `new`; an output of the graph keeps its name."""
        if old in self._outputs:
            if new in self._outputs or new not in self._makers:
                # It bears a name already that must stay: of another output, an input, a constant.
                (new,) = self.add_many("Identity", [new], 1)
            maker = self._makers[new]
            self._rename_output(self._makers[old], old, self._fresh(f"{old}_before"))
            self._rename_output(maker, new, old)
            return
        for node in self._users.pop(old, []):
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new
            self._users.setdefault(new, []).append(node)

    def finish(self) -> None:
        """Drop what nobody reads, order the nodes, write the graph back."""
        ordered = in_order(self._makers, sorted(self._outputs))
        # Only what an output needs is in order, so that dead nodes and their weights go without a
        # search.
        used = {name for node in ordered for name in node.input} | self._outputs
        del self.graph.node[:]
        self.graph.node.extend(ordered)
        kept = [tensor for name, tensor in self._initializers.items() if name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
        domains = {node.domain for node in ordered}
        if MICROSOFT in domains and MICROSOFT not in {o.domain for o in self.model.opset_import}:
            self.model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))

    def _known(self) -> Shapes:
        """What is proven of the graph that the pass began with."""
        if self._shapes is None:
            self._shapes = Shapes(self.model, self.constant)
        return self._shapes

    def _fresh(self, hint: str) -> str:
        """A name that nothing has yet."""
        # A start that is free nearly always: from 0, a graph of thousands would be searched each
        # time.
        number = len(self._names)
        while (name := f"{hint}_{number}") in self._names:
            number += 1
        self._names.add(name)
        return name

    def _rename_output(self, node: NodeProto, old: str, new: str) -> None:
        """Give one output of a node another name, for its readers too."""
        node.output[list(node.output).index(old)] = new
        self._makers[new] = self._makers.pop(old)
        # Who asks for an equal node later must find it under its name of now.
        self._made = {key: new if made == old else made for key, made in self._made.items()}
        for user in self._users.pop(old, []):
            for index, name in enumerate(user.input):
                if name == old:
                    user.input[index] = new
            self._users.setdefault(new, []).append(user)


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """One attribute of a node as a Python value."""
    for item in node.attribute:
        if item.name == name:
            value = helper.get_attribute_value(item)
            return (
                list(value)
                if isinstance(value, Sequence) and not isinstance(value, bytes)
                else value
            )
    return default


def in_order(makers: dict[str, NodeProto], outputs: Sequence[str]) -> list[NodeProto]:
    """The nodes that `outputs` need, each after those that it reads."""
    ordered: list[NodeProto] = []
    done: set[int] = set()
    stack = [(makers[name], False) for name in reversed(outputs) if name in makers]
    while stack:
        node, ready = stack.pop()
        if id(node) in done:
            continue
        # Depth first with the stack of our own: a deep graph is beyond Python's recursion limit.
        if ready:
            done.add(id(node))
            ordered.append(node)
            continue
        stack.append((node, True))
        stack += [(makers[name], False) for name in reversed(node.input) if name in makers]
    return ordered
