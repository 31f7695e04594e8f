"""A captured graph: a torch.fx graph of semantic operators, with its weights beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from glass_export.nn.streamed import Matrix, blocks


@dataclass(frozen=True, slots=True)
class Weight:
    """A named constant that is materialised only when it is written.

    Two weights with the same name are the same data, so graphs share what they have in common.
    ``matrix``: where a weight [N,D] can be read by its rows; None: it is loaded as a whole.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    load: Callable[[], Tensor]
    matrix: Matrix | None = None

    @classmethod
    def of(cls, name: str, tensor: Tensor) -> Weight:
        """A weight that is held in memory already; no copy."""
        detached = tensor.detach()
        return cls(name, tuple(tensor.shape), tensor.dtype, lambda: detached)

    @classmethod
    def streamed(cls, name: str, matrix: Matrix) -> Weight:
        """A float32 weight that is read each time it is asked for."""
        count, depth = matrix.shape
        return cls(name, (count, depth), torch.float32, lambda: matrix.rows(0, count), matrix)

    def blocks(self) -> Iterator[Tensor]:
        """The float32 rows [..,D] of a weight [N,D], few at a time where it can be read so."""
        if self.matrix is None:
            yield self.load().detach().to(torch.float32)
            return
        for span in blocks(self.matrix.shape):
            yield self.matrix.rows(*span)

    def derived(
        self, name: str, shape: tuple[int, ...], change: Callable[[Tensor], Tensor]
    ) -> Weight:
        """A weight computed from this one when it is written."""
        return Weight(name, shape, self.dtype, lambda: change(self.load()))


@dataclass(slots=True)
class CapturedGraph:
    """A graph whose placeholders are either inputs (in ``inputs``) or weights (in ``weights``).

    ``outputs`` names the values of the graph's output node, in order; every node carries its
    shape and dtype as a fake tensor in ``meta["val"]``.
    """

    name: str
    graph: fx.Graph
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: dict[str, Weight] = field(default_factory=dict)

    def nodes(self, *targets: object) -> Iterator[fx.Node]:
        """Calls of any of ``targets``, in order; safe against changes while iterating."""
        for node in list(self.graph.nodes):
            if node.op == "call_function" and (not targets or node.target in targets):
                yield node

    def weight(self, node: fx.Node) -> Weight:
        """The weight that a placeholder stands for."""
        return self.weights[node.name]

    def add_weight(self, weight: Weight, like: Tensor) -> fx.Node:
        """Add a placeholder for ``weight``; ``like`` is a fake tensor of its shape and dtype."""
        first = next(iter(self.graph.nodes))
        with self.graph.inserting_before(first):
            node = self.graph.placeholder(re.sub(r"\W", "_", weight.name))
        node.meta["val"] = like
        self.weights[node.name] = weight
        return node

    def prune(self) -> bool:
        """Drop nodes and weights that no output needs; True when something was dropped."""
        dropped = False
        for node in reversed(list(self.graph.nodes)):
            used_elsewhere = node.users or node.op == "output" or node.name in self.inputs
            if not used_elsewhere:
                self.graph.erase_node(node)
                self.weights.pop(node.name, None)
                dropped = True
        return dropped


def operand(node: fx.Node, index: int) -> fx.Node:
    """The tensor argument ``index`` of a call."""
    argument = node.args[index]
    if not isinstance(argument, fx.Node):
        raise TypeError(f"{node.name}: argument {index} is {argument!r}, expected a tensor")
    return argument


def shape_of(node: fx.Node) -> tuple[int | torch.SymInt, ...]:
    """Shape of a node's value; symbolic where the graph is dynamic."""
    return tuple(node.meta["val"].shape)


def same_shape(a: fx.Node, b: fx.Node) -> bool:
    """Whether two nodes have provably equal shapes."""
    left, right = shape_of(a), shape_of(b)
    return len(left) == len(right) and all(
        str(x) == str(y) for x, y in zip(left, right, strict=True)
    )
