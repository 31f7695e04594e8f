"""Linears and embeddings whose weights are read each time that they are used, and kept nowhere.

For models that memory cannot hold. A layer's parameter ``weight`` is then a stand-in of the right
shape that takes no memory and is NaN all over, so that nobody computes with it unnoticed; tracing
refers to it like to any other parameter. Weights are read BLOCK at a time, as float32.

Legend: N rows (outputs of a linear), D weights of a row (inputs), S tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

L = TypeVar("L", bound=nn.Module)

BLOCK = 1 << 24
"""Most weights in float32 at a time (64 MB), where they are used by the row."""


class Matrix(Protocol):
    """Weights [N,D] that are somewhere else."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""
        ...

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows ``start`` to ``stop`` as float32, contiguous [stop-start,D]."""
        ...


def stand_in(shape: tuple[int, ...]) -> Tensor:
    """A float32 tensor of one NaN, seen as one of ``shape``."""
    return torch.full((1,), float("nan")).expand(shape)


def blocks(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Runs of rows of [N,D], first and end, of at most BLOCK weights each, but at least a row."""
    count, depth = shape
    step = max(1, BLOCK // depth)
    return ((first, min(first + step, count)) for first in range(0, count, step))


def product(x: Tensor, matrix: Matrix, bias: Tensor | None = None) -> Tensor:
    """The product x W^T + bias. Shape: x [..,D] -> [..,N]."""
    parts = [
        functional.linear(x, matrix.rows(first, end), None if bias is None else bias[first:end])
        for first, end in blocks(matrix.shape)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def product_back(x: Tensor, matrix: Matrix) -> Tensor:
    """The product x W: the gradient of a product's input. Shape: x [..,N] -> [..,D]."""
    out = x.new_zeros((*x.shape[:-1], matrix.shape[1]))
    for start, stop in blocks(matrix.shape):
        out += x[..., start:stop] @ matrix.rows(start, stop)
    return out


class StreamedLinear(nn.Linear):
    """A linear over a Matrix."""

    matrix: Matrix

    def forward(self, input: Tensor) -> Tensor:
        """Shape: [..,D] -> [..,N]."""
        if torch.compiler.is_exporting():
            return super().forward(input)
        out: Tensor = _Product.apply(input, self.matrix, self.bias)  # type: ignore[no-untyped-call]
        return out


class StreamedEmbedding(nn.Embedding):
    """An embedding over a Matrix; reads the rows of the tokens that are asked for.

    A model's own embedding, which may scale the result or count positions, comes before this class
    in the order of methods, see _streamed_class.
    """

    matrix: Matrix

    def forward(self, input: Tensor) -> Tensor:
        """Shape: ids [..] -> [..,D]."""
        if torch.compiler.is_exporting():
            return super().forward(input)
        ids, places = input.unique(return_inverse=True)
        few = torch.cat([self.matrix.rows(i, i + 1) for i in ids.tolist()])
        return functional.embedding(places, few)


class _Product(torch.autograd.Function):
    """``product``, which reads the weights again for the gradient instead of keeping them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Matrix, bias: Tensor | None) -> Tensor:
        ctx.matrix = matrix
        return product(x, matrix, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return product_back(gradients[0], ctx.matrix), None, None


def back_through(layer: nn.Module, gradient: Tensor) -> Tensor:
    """``gradient`` [..,N] times the weight [N,D] of a linear, streamed or not: [..,D]."""
    if isinstance(layer, StreamedLinear):
        return product_back(gradient, layer.matrix)
    return gradient @ layer.get_parameter("weight")


def with_weight(layer: L, weight: Tensor) -> L:
    """A shallow copy of a layer that has another weight."""
    clone: L = copy.copy(layer)
    clone._parameters = dict(layer._parameters)
    clone._parameters["weight"] = nn.Parameter(weight, requires_grad=False)
    return clone


def with_matrix(layer: L, matrix: Matrix) -> L:
    """A shallow copy of a streamed layer that has another matrix."""
    clone = copy.copy(layer)
    clone.matrix = matrix  # type: ignore[assignment]  # not a module, whatever L's setter says
    return clone


class _Rows:
    """Some rows of a Matrix."""

    def __init__(self, whole: Matrix, first: int, end: int) -> None:
        self._whole, self._first = whole, first
        self.shape = (end - first, whole.shape[1])

    def rows(self, start: int, stop: int) -> Tensor:
        """See Matrix."""
        return self._whole.rows(self._first + start, self._first + stop)


def halves(layer: nn.Module) -> list[nn.Module]:
    """A linear without a bias as two, of the first and of the second half of its outputs."""
    weight = layer.get_parameter("weight")
    if not isinstance(layer, StreamedLinear):
        return [with_weight(layer, half) for half in weight.chunk(2)]
    count, depth = weight.shape
    return [
        with_matrix(
            with_weight(layer, stand_in((end - first, depth))), _Rows(layer.matrix, first, end)
        )
        for first, end in ((0, count // 2), (count // 2, count))
    ]


def streamable(model: nn.Module) -> list[nn.Linear | nn.Embedding]:
    """The layers whose weights can be streamed: linears and embeddings."""
    return [
        module
        for module in model.modules()
        if type(module) is nn.Linear or isinstance(module, nn.Embedding)
    ]


def stream(model: nn.Module, matrix_of: Callable[[Tensor], Matrix | None]) -> None:
    """Make linears and embeddings streamed, in place.

    Args:
        model: Its parameters are stand-ins where they have a matrix.
        matrix_of: The matrix of a weight; None leaves its layer as it is.
    """
    for module in streamable(model):
        matrix = matrix_of(module.weight)
        if matrix is not None:
            changed: Any = module
            changed.__class__ = _streamed_class(type(module))
            changed.matrix = matrix


def _streamed_class(kind: type[nn.Module]) -> type[nn.Module]:
    """The streamed form of a layer's class, which may be a model's own embedding."""
    if kind is nn.Linear:
        return StreamedLinear
    if kind is nn.Embedding:
        return StreamedEmbedding
    return type(f"Streamed{kind.__name__}", (kind, StreamedEmbedding), {})


def matrices(model: nn.Module) -> dict[int, Matrix]:
    """The matrix behind every stand-in of a model, by the place of the stand-in in memory."""
    return {
        module.weight.data_ptr(): module.matrix
        for module in model.modules()
        if isinstance(module, (StreamedLinear, StreamedEmbedding))
    }


def is_streamed(model: nn.Module) -> bool:
    """Whether weights of a model are read when they are used."""
    return bool(matrices(model))
