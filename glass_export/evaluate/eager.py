"""The eager model, teacher-forced: once densely, then with chosen neurons over the same tokens.

Everything that methods share is computed once a text: the dense pass leaves the keys and values of
every token, the activations, and the dense model's predictions. A sparse pass then runs a span of
decode steps for many choices of neurons at a time, over the dense keys and values before the span:
exactly what a driver computes after it has repaired its cache.

Legend: S tokens of prompt and continuation, P of them the prompt's, N = S - P - 1 decode steps
(step t takes token P + t and predicts token P + t + 1), M choices of neurons, L layers, F FFN
width, D model width, G key/value heads, E head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from glass_export.evaluate.texts import EvalText
from glass_export.nn.head import logits_of
from glass_export.nn.hooks import down_hooks
from glass_export.runtime.base import LocalStatistics
from glass_export.selection import LocalTokens
from glass_export.spec import FfnSite

KeysValues = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values of every layer, [1,G,S,E] each."""

_TINY = 1e-30


@dataclass(frozen=True, slots=True)
class Divergence:
    """Of the sparse from the dense predictions, in nats, for M choices over some decode steps.

    ``kl``: KL(dense || sparse) over the whole vocabulary; ``nll``: negative log-likelihood of the
    dense model's token. Shape: [M,N'] for N' measured steps.
    """

    kl: NDArray[np.float64]
    nll: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recording:
    """What a dense pass over S tokens leaves: hidden states before the head [S,D], |u_t| [L,S,F],
    and keys and values.
    """

    hidden: Tensor
    magnitudes: Tensor
    keys_values: KeysValues


@dataclass(frozen=True, slots=True)
class DensePass:
    """What one dense pass over a text leaves.

    ``magnitudes``: |u_t| of the prompt and of the tokens that are fed in decode steps [L,S-1,F];
    ``steps``: decode steps at which predictions are compared [N']; ``probabilities`` and
    ``entropy``: of the dense predictions there, [N',V] and [N'] (nats); ``nll``: of the
    continuation's own tokens [N'].
    """

    text: EvalText
    magnitudes: Tensor
    steps: Tensor
    probabilities: Tensor
    entropy: Tensor
    nll: NDArray[np.float64]
    keys_values: KeysValues

    def prompt(self, tokens: LocalTokens = "user", count: int | None = None) -> LocalStatistics:
        """Statistics of the prompt's scored tokens; see EvalText.scored."""
        weights = torch.tensor(self.text.scored(tokens, count))
        return local_statistics(self.magnitudes[:, : len(weights)], weights)

    def answer(self, start: int, stop: int) -> LocalStatistics:
        """Statistics of the tokens that decode steps start..stop-1 take."""
        first = len(self.text.prompt)
        tokens = self.magnitudes[:, first + start : first + stop]
        return local_statistics(tokens, torch.ones(tokens.shape[1]))


def local_statistics(magnitudes: Tensor, weights: Tensor) -> LocalStatistics:
    """Sums over tokens of |u_t| [L,S,F], each with its weight [S]."""
    absolute, square = (
        torch.einsum("ltf,t->lf", x, weights) for x in (magnitudes, magnitudes.square())
    )
    return LocalStatistics(absolute.numpy(), square.numpy(), float(weights.sum()))


class EagerModel:
    """A Hugging Face decoder, in evaluation mode, whose FFNs are at ``sites``.

    Args:
        model: The model; its number format is that of the evaluation.
        sites: Its FFNs.
        every: Compare the predictions of every so many decode steps only; more saves time with a
            large vocabulary. A sparse pass still runs all steps.
    """

    def __init__(self, model: PreTrainedModel, sites: list[FfnSite], *, every: int = 1) -> None:
        self.model, self.sites, self.every = model, sites, every

    @torch.no_grad()
    def dense(self, text: EvalText) -> DensePass:
        """Run prompt and continuation through all neurons."""
        run = self.record([*text.prompt, *text.continuation[:-1]])
        steps = torch.arange(0, text.steps, self.every)
        log_p = self.logits(run.hidden[len(text.prompt) :][steps]).log_softmax(-1)
        p = log_p.exp()
        return DensePass(
            text=text,
            magnitudes=run.magnitudes,
            steps=steps,
            probabilities=p,
            entropy=-(p * log_p).sum(-1),
            nll=-_pick(log_p, _targets(text, steps)).double().numpy(),
            keys_values=run.keys_values,
        )

    @torch.no_grad()
    def sparse(self, dense: DensePass, masks: Tensor, start: int, stop: int) -> Divergence:
        """Run decode steps start..stop-1 with M choices of neurons, bool [M,L,F].

        The steps see dense keys and values of everything before ``start`` and sparse ones from
        there on. Measured are those of ``dense.steps`` that are among them.
        """
        count, before = len(masks), len(dense.text.prompt) + start
        cache = filled_cache(dense.keys_values, count, before)
        tokens = torch.tensor(dense.text.continuation[start:stop]).expand(count, -1)
        hidden = self.extend(tokens, masks, cache)
        inside = (dense.steps >= start) & (dense.steps < stop)
        wanted = _targets(dense.text, dense.steps[inside])
        rows = [
            self._compare(
                hidden[index, dense.steps[inside] - start],
                dense.probabilities[inside],
                dense.entropy[inside],
                wanted,
            )
            for index in range(count)
        ]
        kl, nll = (torch.stack(part).double().numpy() for part in zip(*rows, strict=True))
        return Divergence(kl, nll)

    def _compare(
        self, hidden: Tensor, p: Tensor, entropy: Tensor, wanted: Tensor
    ) -> tuple[Tensor, Tensor]:
        """KL and NLL [N'] from hidden states [N',D], without a second [N',V] of logarithms."""
        logits = self.logits(hidden)
        normaliser = logits.logsumexp(-1)
        cross = normaliser - torch.einsum("nv,nv->n", p, logits)
        return (cross - entropy).clamp_min(0), normaliser - _pick(logits, wanted)

    @torch.no_grad()
    def record(self, tokens: Sequence[int]) -> Recording:
        """Run tokens [S] densely from the start of the context."""
        magnitudes: list[Tensor] = [torch.empty(0)] * sum(site.rows for site in self.sites)

        def keep(layer: int) -> Callable[[nn.Module, tuple[Tensor]], None]:
            def hook(_: nn.Module, inputs: tuple[Tensor]) -> None:
                hidden = inputs[0][0].float()
                magnitudes[layer] = nn.functional.normalize(hidden, dim=-1, eps=_TINY).abs()

            return hook

        cache = DynamicCache()
        with down_hooks(self.model, self.sites, keep):
            hidden = self._hidden(torch.tensor([tokens]), cache)[0]
        return Recording(
            hidden, torch.stack(magnitudes), tuple(_stored(layer) for layer in cache.layers)
        )

    @torch.no_grad()
    def extend(self, tokens: Tensor, masks: Tensor, cache: DynamicCache) -> Tensor:
        """Append tokens [M,T] to a cache of M rows, each with its neurons, bool [M,L,F].

        Returns:
            Hidden states [M,T,D].
        """
        scales = masks.to(self.model.dtype)

        def choose(layer: int) -> Callable[[nn.Module, tuple[Tensor]], tuple[Tensor]]:
            return lambda _, inputs: (inputs[0] * scales[:, layer, None],)

        with down_hooks(self.model, self.sites, choose):
            return self._hidden(tokens, cache)

    def _hidden(self, tokens: Tensor, cache: DynamicCache) -> Tensor:
        decoder: nn.Module = self.model.get_decoder()
        hidden: Tensor = decoder(
            input_ids=tokens, past_key_values=cache, use_cache=True
        ).last_hidden_state
        return hidden

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """Shape: [N',D] -> float32 [N',V]."""
        return logits_of(self.model, hidden).float()


def filled_cache(keys_values: KeysValues, rows: int, length: int) -> DynamicCache:
    """A cache of M rows that all hold the first ``length`` keys and values."""
    cache = DynamicCache()
    for layer, pair in enumerate(keys_values):
        keys, values = (x[:, :, :length].expand(rows, -1, -1, -1) for x in pair)
        cache.update(keys, values, layer)
    return cache


def _stored(layer: Any) -> tuple[Tensor, Tensor]:
    """Keys and values of a layer of a DynamicCache [1,G,S,E]."""
    return layer.keys, layer.values


def _targets(text: EvalText, steps: Tensor) -> Tensor:
    return torch.tensor(text.continuation)[steps + 1]


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """The chosen element of each row: [N,V], [N] -> [N]."""
    return values.gather(-1, index[:, None])[:, 0]
