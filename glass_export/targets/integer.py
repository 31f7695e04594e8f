"""The eager model with the numbers of integer weights: what an int8 or int4 artifact computes.

Weights are rounded as :mod:`glass_export.bundles` stores them: in groups of 32 along a row, and the
outliers of down apart. The inputs of a rounded matrix product are rounded too: to int8, with one
scale for each 32 values of a token.

Legend: D model width, F FFN width, N output width.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from glass_export.bundles import (
    BundleFormat,
    bundle_bytes,
    quantise_tokens,
    row_bytes,
)
from glass_export.errors import LoweringError
from glass_export.nn.streamed import Matrix, StreamedLinear, product_back
from glass_export.spec import EXPERT_WEIGHTS, FfnSite
from glass_export.targets.base import ModelShapes
from glass_export.targets.rounding import (
    RoundedRows,
    Transposed,
    down_codec,
    rounded,
    row_codec,
    scratch_file,
    with_weight,
    with_weight_of,
)

Replace = Callable[[nn.Module, BinaryIO], nn.Module]
"""Gives what stands for a layer; a streamed one's weights go into the scratch file."""


def native_bytes(shapes: ModelShapes, form: BundleFormat) -> dict[str, int]:
    """Bytes of the weights as the project's operators have them: bundles and rows.

    Raises:
        LoweringError: a width is not a multiple of 32.
    """
    return {
        "FFNs": shapes.rows * shapes.d_ff * bundle_bytes(shapes.d_model, form, gated=shapes.gated),
        "linears and embeddings": sum(n * row_bytes(d, form) for n, d in shapes.matrices),
    }


@contextmanager
def rounded_ffns(
    model: PreTrainedModel,
    sites: list[FfnSite],
    form: BundleFormat,
    *,
    down: Replace | None = None,
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
    codec = row_codec(sites[0].d_model, form)
    with scratch_file() as scratch, ExitStack() as undo:
        for site in sites:
            if site.experts:
                with named(site.path):
                    experts = _rounded_experts(model.get_submodule(site.path), form)
                swap(undo, model, site.path, experts)
                continue
            *inputs, last = site.linears
            for name in inputs:
                layer = model.get_submodule(name)
                with named(name):
                    swap(undo, model, name, _rounding(rounded(layer, codec, scratch)))
            with named(last):
                replace = down or by_neurons(form)
                swap(undo, model, last, replace(model.get_submodule(last), scratch))
        yield


def _rounded_experts(module: nn.Module, form: BundleFormat) -> nn.Module:
    """A shallow copy of experts with the weights of bundles, whose input is rounded, too."""
    gate_up, down = (module.get_parameter(name) for name in EXPERT_WEIGHTS)
    rows, neurons = gate_up.flatten(0, 1), down.transpose(1, 2).flatten(0, 1)
    depth = gate_up.shape[2]
    stored = (
        row_codec(depth, form).rounded(rows).view_as(gate_up),
        down_codec(depth, form).rounded(neurons).unflatten(0, (len(down), -1)).transpose(1, 2),
    )
    clone = copy.copy(module)
    clone._parameters = {
        name: nn.Parameter(weight, requires_grad=False)
        for name, weight in zip(EXPERT_WEIGHTS, stored, strict=True)
    }
    clone._forward_pre_hooks = OrderedDict()
    tokens = RoundedTokens()
    clone.register_forward_pre_hook(lambda _, inputs: (tokens(inputs[0]), *inputs[1:]))
    return clone


def by_neurons(form: BundleFormat) -> Replace:
    """A down projection [D,F] with the weights of bundles: rounded neuron by neuron."""

    def replace(layer: nn.Module, scratch: BinaryIO) -> nn.Module:
        if isinstance(layer, StreamedLinear):
            neurons = Transposed(layer.matrix)
            rows = RoundedRows(neurons, down_codec(neurons.shape[1], form), scratch)
            return _ByNeurons(rows, layer.bias)
        weight = layer.get_parameter("weight").T
        return with_weight(layer, down_codec(weight.shape[1], form).rounded(weight).T)

    return replace


class _ByNeurons(nn.Module):
    """A down projection over rows of neurons [F,D], with its bias [D] if it has one."""

    def __init__(self, neurons: Matrix, bias: Tensor | None) -> None:
        super().__init__()
        self.neurons, self.bias = neurons, bias

    def forward(self, hidden: Tensor) -> Tensor:
        """Shape: [..,F] -> [..,D]."""
        out = product_back(hidden, self.neurons)
        return out if self.bias is None else out + self.bias


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
    done: dict[int, nn.Module] = {}
    with scratch_file() as scratch, ExitStack() as undo:
        for name, layer in list(model.named_modules()):
            if not isinstance(layer, (nn.Linear, nn.Embedding)) or name in ffns:
                continue
            if id(layer.weight) not in done:
                with named(name):
                    codec = row_codec(layer.weight.shape[1], form)
                    done[id(layer.weight)] = rounded(layer, codec, scratch)
            new = with_weight_of(layer, done[id(layer.weight)])
            swap(undo, model, name, _rounding(new) if isinstance(layer, nn.Linear) else new)
        yield


class RoundedTokens(nn.Module):
    """Activations as an integer matrix product sees them; see ``bundles.quantise_tokens``."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape: x [..,D] -> [..,D]."""
        tokens = x.detach().float().reshape(-1, x.shape[-1]).numpy()
        return torch.from_numpy(quantise_tokens(tokens)).reshape(x.shape)


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
