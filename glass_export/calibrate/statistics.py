"""The four statistics of every FFN neuron, from one forward and backward pass over a text.

One sequence at a time, without padding. The FFNs keep only their input for the backward pass and
compute the rest again there, and the output head runs over a few positions at a time, so memory
stays small whatever the FFN width and the vocabulary.

Legend: P tokens of the prefix, S tokens of a sequence with its prefix, D model width, F FFN width,
L layers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import linear
from transformers import PreTrainedModel

from glass_export.calibrate.cache import CalibrationCache, PartialSums, Sequence
from glass_export.errors import CalibrationError, UnsupportedModelError
from glass_export.log import progress
from glass_export.nn.ffn import Ffn, replaced_ffns
from glass_export.nn.head import logits_of
from glass_export.ops.ffn import ACTIVATIONS
from glass_export.spec import FfnSite, Statistic

ORDER: tuple[Statistic, ...] = ("A", "I", "G", "F")
SAVE_EVERY = 1024
"""Tokens between two saves of the partial sums."""
_LOGITS = 1 << 22
"""Most logits held at a time (16 MB)."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over ``tokens`` tokens, in ORDER. Shape: values [4,L,F], float64."""

    values: NDArray[np.float64]
    tokens: int


def measure(
    model: PreTrainedModel,
    sites: list[FfnSite],
    sequences: list[Sequence],
    prefix: tuple[int, ...],
    store: CalibrationCache,
) -> Sums:
    """Sum A, I, G and F over all tokens of the sequences; the prefix does not count.

    The loss is the negative log-likelihood summed over tokens, so dNLL/dh is a gradient per token.

    Args:
        model: In evaluation mode, no parameter requiring a gradient.
        sites: Its FFNs, all of one width.
        sequences: Text of the model.
        prefix: Tokens put in front of every sequence, at least one.
        store: Keeps partial sums; a run that was killed goes on from there.

    Raises:
        CalibrationError: NaN or infinity.
        UnsupportedModelError: ``sites`` does not describe the model's FFNs.
    """
    shape = (len(ORDER), len(sites), sites[0].d_ff)
    resumed = store.load_sums(shape, sequences)
    totals = torch.from_numpy(resumed.values).to(model.device)
    counts = [len(sequence) for sequence in sequences]
    inputs = [torch.tensor([[*prefix, *sequence.tolist()]]) for sequence in sequences]
    _check_sites(model, sites, inputs[0][:, : 16 + len(prefix)].to(model.device))
    unsaved = 0
    with (
        progress("measuring neurons", sum(counts), "tokens") as task,
        _probes(model, sites, totals, len(prefix)),
    ):
        task.advance(sum(counts[: resumed.done]))
        for index in range(resumed.done, len(sequences)):
            _add(model, inputs[index].to(model.device), len(prefix))
            _check_finite(totals)
            unsaved += counts[index]
            if unsaved >= SAVE_EVERY:
                store.save_sums(PartialSums(totals.cpu().numpy(), index + 1), sequences)
                unsaved = 0
            task.advance(counts[index])
    return Sums(totals.cpu().numpy(), sum(counts))


def _add(model: PreTrainedModel, tokens: Tensor, prefix: int) -> None:
    """Run one sequence [1,S] forward and backward; the probes add to the totals."""
    with torch.enable_grad():
        embedded = model.get_input_embeddings()(tokens).requires_grad_()
        hidden = _decoder(model)(inputs_embeds=embedded, use_cache=False).last_hidden_state
    hidden.backward(_loss_gradient(model, hidden.detach()[0], tokens[0], prefix)[None])


def _loss_gradient(model: PreTrainedModel, hidden: Tensor, tokens: Tensor, prefix: int) -> Tensor:
    """dNLL/dhidden of the loss summed over tokens after the prefix: dNLL/dlogits is
    softmax - onehot, and from there on it is the model's own head.

    Shape: [S,D], [S] -> [S,D].
    """
    positions = torch.arange(len(tokens), device=tokens.device)
    gradient = torch.zeros_like(hidden)
    rows = max(1, _LOGITS // model.get_output_embeddings().weight.shape[0])
    for start in range(prefix - 1, len(tokens) - 1, rows):
        stop = min(start + rows, len(tokens) - 1)
        part = hidden[start:stop].detach().requires_grad_()
        with torch.enable_grad():
            logits = logits_of(model, part)
        slope = torch.softmax(logits.detach().float(), -1)
        slope[positions[: stop - start], tokens[start + 1 : stop + 1]] -= 1
        (gradient[start:stop],) = torch.autograd.grad(logits, part, slope.to(logits.dtype))
    return gradient


class _Probe(Ffn):
    """Computes one FFN and adds to that layer's totals [4,F]."""

    def __init__(self, model: nn.Module, site: FfnSite, totals: Tensor, prefix: int) -> None:
        super().__init__(model, site)
        self.activation = ACTIVATIONS[site.activation]
        self.totals = totals
        self.prefix = prefix

    def __call__(self, x: Tensor) -> Tensor:
        """See Ffn."""
        function = _GatedPass if self.weights.gate is not None else _PlainPass
        output: Tensor = function.apply(x, self)  # type: ignore[no-untyped-call]  # torch has none
        return self.with_down_bias(output)

    def add(self, hidden: Tensor, gradient: Tensor) -> None:
        """Add the tokens of h and dNLL/dh, [1,S,F] or [S,F], after the prefix."""
        h, g = (x.flatten(0, -2)[self.prefix :].float() for x in (hidden, gradient))
        unit = functional.normalize(h, dim=-1, eps=1e-15)
        taylor = h * g
        for total, x in zip(
            self.totals,
            (unit.abs(), taylor.abs(), unit.square_(), taylor.square_()),
            strict=True,
        ):
            total += x.sum(0)


class _GatedPass(torch.autograd.Function):
    """Gated FFN that saves its input alone and has its statistics taken in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, probe: _Probe) -> Tensor:
        ctx.save_for_backward(x)
        ctx.probe = probe
        gate, up, down, _ = probe.weights
        assert gate is not None
        hidden = probe.activation(linear(x, gate)).mul_(linear(x, up))
        return linear(hidden, down)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,), probe = ctx.saved_tensors, ctx.probe
        gate_weight, up_weight, down, _ = probe.weights
        up = linear(x, up_weight)
        gate = linear(x, gate_weight).requires_grad_()
        with torch.enable_grad():
            active = probe.activation(gate)
        d_hidden = gradients[0] @ down
        probe.add(active.detach() * up, d_hidden)
        d_up = active.detach() * d_hidden
        (d_gate,) = torch.autograd.grad(active, gate, d_hidden.mul_(up))
        return d_gate @ gate_weight + d_up @ up_weight, None


class _PlainPass(torch.autograd.Function):
    """The same of a plain FFN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, probe: _Probe) -> Tensor:
        ctx.save_for_backward(x)
        ctx.probe = probe
        _, up, down, bias = probe.weights
        return linear(probe.activation(linear(x, up, bias)), down)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,), probe = ctx.saved_tensors, ctx.probe
        _, up_weight, down, bias = probe.weights
        up = linear(x, up_weight, bias).requires_grad_()
        with torch.enable_grad():
            active = probe.activation(up)
        d_hidden = gradients[0] @ down
        probe.add(active.detach(), d_hidden)
        (d_up,) = torch.autograd.grad(active, up, d_hidden)
        return d_up @ up_weight, None


def _decoder(model: PreTrainedModel) -> nn.Module:
    module: nn.Module = model.get_decoder()
    return module


@contextmanager
def _probes(
    model: PreTrainedModel, sites: list[FfnSite], totals: Tensor, prefix: int
) -> Iterator[None]:
    """Have a probe compute every FFN; totals [4,L,F] grow in place."""

    def probe(site: FfnSite) -> _Probe:
        return _Probe(model, site, totals[:, sites.index(site)], prefix)

    with replaced_ffns(model, sites, probe):
        yield


@torch.no_grad()
def _check_sites(model: PreTrainedModel, sites: list[FfnSite], tokens: Tensor) -> None:
    """The path that is measured (decoder with probes, head) must give the model's own logits."""
    expected = model(input_ids=tokens, use_cache=False).logits.float()
    with _probes(model, sites, torch.zeros(len(ORDER), len(sites), 1), 1):
        hidden = _decoder(model)(input_ids=tokens, use_cache=False).last_hidden_state
    got = logits_of(model, hidden).float()
    error, size = (float(x.abs().max()) for x in (got - expected, expected))
    tolerance = 1e-3 if model.dtype == torch.float32 else 5e-2
    if error > tolerance * size:
        raise UnsupportedModelError(
            f"{type(model).__name__}: decoder, FFN sites and output head give logits off by "
            f"{error:.3g} (largest: {size:.3g}), expected those of the model; it has a part that "
            "the sites do not describe, such as another activation or a further addend"
        )


def _check_finite(totals: Tensor) -> None:
    finite = torch.isfinite(totals)
    if not bool(finite.all()):
        statistic, layer, neuron = (int(i) for i in (~finite).nonzero()[0])
        raise CalibrationError(
            f"statistic {ORDER[statistic]} of layer {layer}, neuron {neuron}: got NaN or "
            "infinity, expected a finite number; the weights may be damaged or overflow in this "
            "number format: load them in float32"
        )
