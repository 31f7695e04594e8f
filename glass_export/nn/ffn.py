"""The two forms of a model's FFN, and how they take its place. Weights are referred to, not copied.

Legend: S tokens, D model width, F FFN width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from glass_export import ops
from glass_export.errors import UnsupportedModelError
from glass_export.nn.state import current
from glass_export.nn.streamed import halves
from glass_export.ops.ffn import ACTIVATIONS
from glass_export.spec import FfnSite


class FfnWeights(NamedTuple):
    """Gate [F,D] (None where the FFN is plain), up [F,D], down [D,F] and bias of up [F], if any."""

    gate: Tensor | None
    up: Tensor
    down: Tensor
    bias: Tensor | None


class FfnLinears:
    """The linears of one site; weights are looked up at each use, as torch.export swaps them.

    Attributes:
        gate: None where the FFN is plain. Of a linear that is gate and up in one, its first half.
        up: The second half.
        down: The last linear.
        parts: All of them by the names of ``site.parts``.
    """

    def __init__(self, model: nn.Module, site: FfnSite) -> None:
        """Look the modules up.

        Raises:
            UnsupportedModelError: the module ``site.act`` is another activation than the site's.
        """
        self.site = site
        modules = [model.get_submodule(path) for path in site.linears]
        if site.fused:
            both, down = modules
            modules = [*halves(both), down]
        self.parts = dict(zip(site.parts, modules, strict=True))
        *gate, self.up, self.down = modules
        self.gate = gate[0] if gate else None
        if site.act is not None:
            _check_activation(model, site)

    @property
    def weights(self) -> FfnWeights:
        """What an FFN operator takes."""
        gate = None if self.gate is None else self.gate.get_parameter("weight")
        up, down = (part.get_parameter("weight") for part in (self.up, self.down))
        return FfnWeights(gate, up, down, self.up._parameters.get("bias"))

    @property
    def down_bias(self) -> Tensor | None:
        """Bias of down [D]: it belongs to no neuron, so it is added to what an operator returns."""
        return self.down._parameters.get("bias")


def computed(layer: nn.Module, x: Tensor) -> Tensor:
    """What a linear gives, also while it computes a whole FFN. Shape: [..,D] -> [..,N]."""
    output: Tensor = type(layer).forward(layer, x)
    return output


class Ffn(FfnLinears, ABC):
    """Computes the FFN of a site in a way of its own."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Shape: x [1,S,D] or [S,D] -> the same."""

    def with_down_bias(self, y: Tensor) -> Tensor:
        """The output of the FFN. Shape: y [..,D] -> [..,D]."""
        return y if self.down_bias is None else y + self.down_bias


class ScoringFfn(Ffn):
    """Dense FFN that leaves its local score sums in the step state."""

    def __call__(self, x: Tensor) -> Tensor:
        """See Ffn."""
        state = current()
        y, abs_sum, sq_sum = ops.scoring_ffn(
            _batch(x), *self.weights, state.score_weights, self.site.activation
        )
        state.abs_sums.append(abs_sum)
        state.sq_sums.append(sq_sum)
        return self.with_down_bias(_like(y, x))


class SparseFfn(Ffn):
    """FFN of the neurons that the step state names for this layer."""

    def __call__(self, x: Tensor) -> Tensor:
        """See Ffn."""
        y: Tensor = ops.sparse_ffn(
            _batch(x), *self.weights, current().indices, self.site.row, self.site.activation
        )
        return self.with_down_bias(_like(y, x))


def _check_activation(model: nn.Module, site: FfnSite) -> None:
    path = f"{site.path}.{site.act}"
    probe = torch.linspace(-6.0, 6.0, 97)
    got, expected = model.get_submodule(path)(probe), ACTIVATIONS[site.activation](probe)
    if not torch.allclose(got, expected, rtol=1e-5, atol=1e-6):
        raise UnsupportedModelError(
            f"{path}: values are up to {float((got - expected).abs().max()):.3g} from those of "
            f"{site.activation}, expected that activation; FFNs with another one are not supported"
        )


def _batch(x: Tensor) -> Tensor:
    """Tokens [1,S,D]; some models leave the batch out."""
    return x if x.dim() == 3 else x.reshape(1, *x.shape)


def _like(y: Tensor, x: Tensor) -> Tensor:
    """``y`` without a batch, if ``x`` has none."""
    return y if x.dim() == 3 else y.reshape(x.shape)


@contextmanager
def replaced_ffns(
    model: nn.Module, sites: list[FfnSite], make: Callable[[FfnSite], Callable[..., Tensor]]
) -> Iterator[None]:
    """Inside the block FFNs compute as ``make(site)`` does; modules and their names stay.

    The module of a gated FFN computes it, and holds the two halves of a fused linear besides. Of a
    plain FFN the last linear does, behind a linear and an activation that hand on what they get.
    Experts, a module too, are given the experts and weights of every token besides.
    """
    with ExitStack() as undo:
        for site in sites:
            ffn, last = make(site), site.path
            if site.gate is None:
                *_, up, last = site.linears
                for path in (up, f"{site.path}.{site.act}"):
                    undo.enter_context(_computing(model.get_submodule(path), lambda x: x))
            undo.enter_context(_computing(model.get_submodule(last), ffn))
            if site.fused and isinstance(ffn, FfnLinears):
                undo.enter_context(_holding(model.get_submodule(site.path), ffn.parts))
        yield


@contextmanager
def _holding(module: nn.Module, parts: Mapping[str, nn.Module]) -> Iterator[None]:
    own = set(module._modules)
    module._modules.update(parts)
    try:
        yield
    finally:
        for name in parts.keys() - own:
            del module._modules[name]


@contextmanager
def _computing(module: nn.Module, forward: Callable[..., Tensor]) -> Iterator[None]:
    own = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if own is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = own
