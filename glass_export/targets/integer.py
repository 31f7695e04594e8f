"""The eager model with the numbers of integer weights: what an int8 or int4 artifact computes.

Weights are rounded as :mod:`glass_export.bundles` stores them: in groups of 32 along a row, and the
outliers of down apart. The inputs of a rounded matrix product are rounded too: to int8, with one
scale for each 32 values of a token.

Legend: D model width, F FFN width, N output width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from glass_export.bundles import (
    BundleFormat,
    dequantise_rows,
    quantise_rows,
    quantise_tokens,
    round_down,
)
from glass_export.errors import LoweringError
from glass_export.spec import FfnSite


@contextmanager
def rounded_ffns(
    model: PreTrainedModel,
    sites: list[FfnSite],
    form: BundleFormat,
    *,
    down: Callable[[nn.Module], nn.Module] | None = None,
) -> Iterator[None]:
    """Inside the block the FFNs of ``model`` compute as the kernels do with integer bundles.

    The input of gate and up is rounded, that of down, the activation h, is not.

    Args:
        model: The eager model.
        sites: Its FFNs.
        form: Format of the bundles.
        down: What stands for a down projection where it is not stored as in bundles.

    Raises:
        LoweringError: D is not a multiple of 32, or a weight does not fit; names the layer.
    """
    with ExitStack() as undo:
        for site in sites:
            *inputs, last = site.linears
            for name in inputs:
                layer = model.get_submodule(name)
                with named(name):
                    weight = rounded_rows(layer.get_parameter("weight"), form)
                swap(undo, model, name, _rounding(with_weight(layer, weight)))
            with named(last):
                swap(undo, model, last, (down or by_neurons(form))(model.get_submodule(last)))
        yield


def by_neurons(form: BundleFormat) -> Callable[[nn.Module], nn.Module]:
    """A down projection [D,F] with the weights of bundles: rounded neuron by neuron."""

    def replace(layer: nn.Module) -> nn.Module:
        weight = layer.get_parameter("weight").detach().float().T.contiguous().numpy()
        return with_weight(layer, torch.from_numpy(round_down(weight, form)).T)

    return replace


@contextmanager
def rounded_linears(
    model: PreTrainedModel, sites: list[FfnSite], form: BundleFormat
) -> Iterator[None]:
    """Inside the block the linears and embeddings outside the FFNs have integer weights.

    Linears also round their inputs. Layers that are tied stay tied.

    Raises:
        LoweringError: a row is not a multiple of 32 long, or a weight does not fit; names it.
    """
    ffns = {path for site in sites for path in site.linears}
    rounded: dict[int, Tensor] = {}
    with ExitStack() as undo:
        for name, layer in list(model.named_modules()):
            if not isinstance(layer, (nn.Linear, nn.Embedding)) or name in ffns:
                continue
            if id(layer.weight) not in rounded:
                with named(name):
                    rounded[id(layer.weight)] = rounded_rows(layer.weight, form)
            new: nn.Module = with_weight(layer, rounded[id(layer.weight)])
            swap(undo, model, name, _rounding(new) if isinstance(layer, nn.Linear) else new)
        yield


class RoundedTokens(nn.Module):
    """Activations as an integer matrix product sees them; see ``bundles.quantise_tokens``."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape: x [..,D] -> [..,D]."""
        tokens = x.detach().float().reshape(-1, x.shape[-1]).numpy()
        return torch.from_numpy(quantise_tokens(tokens)).reshape(x.shape)


def rounded_rows(weight: Tensor, form: BundleFormat) -> Tensor:
    """What integer rows make of a matrix. Shape: [N,D] -> [N,D]."""
    rows = quantise_rows(weight.detach().float().contiguous().numpy(), form)
    return torch.from_numpy(dequantise_rows(rows, weight.shape[1], form))


def with_weight(layer: nn.Module, weight: Tensor) -> nn.Module:
    """A shallow copy of a layer that has another weight."""
    clone = copy.copy(layer)
    clone._parameters = dict(layer._parameters)
    clone._parameters["weight"] = nn.Parameter(weight, requires_grad=False)
    return clone


def swap(undo: ExitStack, model: nn.Module, name: str, new: nn.Module) -> None:
    """Put ``new`` in the place of the submodule ``name``; ``undo`` puts the old one back."""
    parent, leaf = model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
    undo.callback(setattr, parent, leaf, getattr(parent, leaf))
    setattr(parent, leaf, new)


@contextmanager
def named(what: str) -> Iterator[None]:
    """Say of which part of the model an error inside the block speaks."""
    try:
        yield
    except LoweringError as problem:
        raise LoweringError(f"{what}: {problem}") from problem


def _rounding(layer: nn.Module) -> nn.Module:
    return nn.Sequential(RoundedTokens(), layer)
