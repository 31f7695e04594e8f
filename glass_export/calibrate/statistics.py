"""The four statistics of every FFN neuron, from one forward and backward pass over a text.

One sequence at a time, without padding. The FFNs keep only their input for the backward pass and
compute the rest again there (experts, which have few tokens each, keep what they compute), and the
output head runs over a few positions at a time, so memory stays small whatever the FFN width and
the vocabulary.

Legend: P tokens of the prefix, S tokens of a sequence with its prefix, D model width, F FFN width,
L layers (of a mixture of experts, rows: one an expert), V vocabulary.
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
from transformers import PreTrainedModel

from glass_export.calibrate.cache import CalibrationCache, PartialSums, Sequence
from glass_export.calibrate.team import ALONE, Team
from glass_export.errors import CalibrationError, UnsupportedModelError
from glass_export.log import progress
from glass_export.nn.experts import WatchedExperts
from glass_export.nn.ffn import Ffn, computed, replaced_ffns
from glass_export.nn.head import logits_of
from glass_export.nn.streamed import back_through
from glass_export.ops.ffn import ACTIVATIONS
from glass_export.scoring import routed_tokens
from glass_export.spec import FfnSite, Statistic

ORDER: tuple[Statistic, ...] = ("A", "I", "G", "F")
RUNS = 8
"""Sums are over so many runs of sequences, then over those: the result is the same whichever
process measures which run. More processes than this have nothing to do."""
SAVE_EVERY = 1024
"""Tokens between two saves of the partial sums."""
_LOGITS = 1 << 22
"""Most logits held at a time (16 MB)."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over ``tokens`` tokens, in ORDER. Shape: values [4,L,F], float64."""

    values: NDArray[np.float64]
    tokens: int

    @property
    def routed(self) -> NDArray[np.float64]:
        """Tokens that went through the neurons of each row [L,1]; see scoring.routed_tokens."""
        return routed_tokens(self.values[ORDER.index("G")])


def measure(
    model: PreTrainedModel,
    sites: list[FfnSite],
    sequences: list[Sequence],
    prefix: tuple[int, ...],
    store: CalibrationCache,
    team: Team = ALONE,
) -> Sums:
    """Sum A, I, G and F over all tokens of the sequences; the prefix does not count.

    The loss is the negative log-likelihood summed over tokens, so dNLL/dh is a gradient per token.

    Args:
        model: In evaluation mode, no parameter requiring a gradient.
        sites: Its FFNs, all of one width.
        sequences: Text of the model.
        prefix: Tokens put in front of every sequence, at least one.
        store: Keeps partial sums; a run that was killed goes on from there.
        team: Processes that share the sequences; all of them get the result.

    Raises:
        CalibrationError: NaN or infinity.
        UnsupportedModelError: ``sites`` does not describe the model's FFNs.
    """
    example = torch.tensor([[*prefix, *sequences[0][:16].tolist()]])
    _check_sites(model, sites, example.to(model.device))
    own = range(team.rank, RUNS, team.size)
    sums = _run_sums(model, sites, sequences, prefix, store, own, f"{team.rank}-of-{team.size}")
    by_run = {run: part for parts in team.collect(sums) for run, part in parts.items()}
    total = np.zeros((len(ORDER), rows_of(sites), sites[0].d_ff))
    for run in range(RUNS):  # always in this order: sums of floats depend on it
        total += by_run[run]
    return Sums(total, sum(len(sequence) for sequence in sequences))


def rows_of(sites: list[FfnSite]) -> int:
    """Rows of scores, L."""
    return sum(site.rows for site in sites)


def _run_sums(
    model: PreTrainedModel,
    sites: list[FfnSite],
    sequences: list[Sequence],
    prefix: tuple[int, ...],
    store: CalibrationCache,
    runs: range,
    part: str,
) -> dict[int, NDArray[np.float64]]:
    """Sums [4,L,F] over each of ``runs``; of RUNS, run r has every sequence s with s % RUNS = r."""
    mine = [(place, s) for place, run in enumerate(runs) for s in sequences[run::RUNS]]
    shape = (len(runs), len(ORDER), rows_of(sites), sites[0].d_ff)
    resumed = store.load_sums(shape, sequences, part)
    totals = torch.from_numpy(resumed.values).to(model.device)
    unsaved = 0
    with progress("measuring neurons", sum(len(s) for _, s in mine), "tokens") as task:
        task.advance(sum(len(s) for _, s in mine[: resumed.done]))
        for index in range(resumed.done, len(mine)):
            place, sequence = mine[index]
            tokens = torch.tensor([[*prefix, *sequence.tolist()]], device=model.device)
            with _probes(model, sites, totals[place], len(prefix)):
                _add(model, tokens, len(prefix))
            _check_finite(totals[place])
            unsaved += len(sequence)
            if unsaved >= SAVE_EVERY:
                partial = PartialSums(totals.cpu().numpy(), index + 1)
                store.save_sums(partial, sequences, part)
                unsaved = 0
            task.advance(len(sequence))
    return dict(zip(runs, totals.cpu().numpy(), strict=True))


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
        function = _PlainPass if self.gate is None else _GatedPass
        output: Tensor = function.apply(x, self)  # type: ignore[no-untyped-call]  # torch has none
        return output

    def add(self, hidden: Tensor, gradient: Tensor) -> None:
        """Add the tokens of h and dNLL/dh, [1,S,F] or [S,F], after the prefix."""
        _add_tokens(
            self.totals, *(x.flatten(0, -2)[self.prefix :].float() for x in (hidden, gradient))
        )


def _add_tokens(totals: Tensor, h: Tensor, gradient: Tensor) -> None:
    """Add tokens to the totals [4,F] of a row. Shape: h and dNLL/dh [n,F]."""
    unit = functional.normalize(h, dim=-1, eps=1e-15)
    taylor = h * gradient
    values = (unit.abs(), taylor.abs(), unit.square_(), taylor.square_())
    for total, x in zip(totals, values, strict=True):
        total += x.sum(0)


class _ExpertsProbe(WatchedExperts):
    """Computes the experts of a layer and adds to their totals [4,E,F]."""

    def __init__(self, model: nn.Module, site: FfnSite, totals: Tensor, prefix: int) -> None:
        super().__init__(model, site, self._take)
        self.totals = totals
        self.prefix = prefix

    def _take(self, expert: int, tokens: Tensor, hidden: Tensor) -> Tensor:
        """See Watch: h is taken as soon as its gradient is there."""
        counted = tokens >= self.prefix

        def add(gradient: Tensor) -> None:
            parts = (x[counted].float() for x in (hidden.detach(), gradient))
            _add_tokens(self.totals[:, expert], *parts)

        if hidden.requires_grad:
            hidden.register_hook(add)
        return hidden


class _GatedPass(torch.autograd.Function):
    """Gated FFN that saves its input alone and has its statistics taken in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, probe: _Probe) -> Tensor:
        ctx.save_for_backward(x)
        ctx.probe = probe
        assert probe.gate is not None
        hidden = probe.activation(computed(probe.gate, x)).mul_(computed(probe.up, x))
        return computed(probe.down, hidden)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,), probe = ctx.saved_tensors, ctx.probe
        up = computed(probe.up, x)
        gate = computed(probe.gate, x).requires_grad_()
        with torch.enable_grad():
            active = probe.activation(gate)
        d_hidden = back_through(probe.down, gradients[0])
        probe.add(active.detach() * up, d_hidden)
        d_up = active.detach() * d_hidden
        (d_gate,) = torch.autograd.grad(active, gate, d_hidden.mul_(up))
        return back_through(probe.gate, d_gate) + back_through(probe.up, d_up), None


class _PlainPass(torch.autograd.Function):
    """The same of a plain FFN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, probe: _Probe) -> Tensor:
        ctx.save_for_backward(x)
        ctx.probe = probe
        return computed(probe.down, probe.activation(computed(probe.up, x)))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,), probe = ctx.saved_tensors, ctx.probe
        up = computed(probe.up, x).requires_grad_()
        with torch.enable_grad():
            active = probe.activation(up)
        d_hidden = back_through(probe.down, gradients[0])
        probe.add(active.detach(), d_hidden)
        (d_up,) = torch.autograd.grad(active, up, d_hidden)
        return back_through(probe.up, d_up), None


def _decoder(model: PreTrainedModel) -> nn.Module:
    module: nn.Module = model.get_decoder()
    return module


@contextmanager
def _probes(
    model: PreTrainedModel, sites: list[FfnSite], totals: Tensor, prefix: int
) -> Iterator[None]:
    """Have a probe compute every FFN; totals [4,L,F] grow in place."""

    def probe(site: FfnSite) -> _Probe | _ExpertsProbe:
        if site.experts:
            rows = totals[:, site.row : site.row + site.rows]
            return _ExpertsProbe(model, site, rows, prefix)
        return _Probe(model, site, totals[:, site.row], prefix)

    with replaced_ffns(model, sites, probe):
        yield


@torch.no_grad()
def _check_sites(model: PreTrainedModel, sites: list[FfnSite], tokens: Tensor) -> None:
    """The path that is measured (decoder with probes, head) must give the model's own logits."""
    expected = model(input_ids=tokens, use_cache=False).logits.float()
    with _probes(model, sites, torch.zeros(len(ORDER), rows_of(sites), 1), 1):
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
