"""Run the original Hugging Face model to get a Reference; independent of our own operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from glass_export.log import progress
from glass_export.nn.hooks import down_hooks
from glass_export.runtime.base import IndexArray, LocalStatistics
from glass_export.spec import FfnSite
from glass_export.verify.reference import (
    PromptReference,
    Reference,
    Tolerance,
    logit_error,
    score_error,
)

Choose = Callable[[LocalStatistics], IndexArray]
"""Picks neurons [L,K] from a prompt's score sums."""

SMOOTH_TOLERANCE = 1e-3
"""What two correct float32 runtimes stay well below."""

MARGIN = 3
"""Disturbances differ by chance; so many times one is still the same model."""

DISTURBANCE = 1e-4
"""Relative noise. Enough to flip some rounding in the shortest prompt; one flip moves the logits
by far more than the noise itself does."""

PROMPTS = (
    "The",
    "Write a short note to a neighbour about a lost cat.",
    "def merge_sorted(left, right):\n    result = []\n    while left and right:\n",
    "The lighthouse keeper counted the ships each evening and wrote their names in a long book. "
    "One night a ship without lights came close to the rocks, and he had to decide quickly. "
    "Summary in one sentence:",
)


def make_reference(
    model: PreTrainedModel,
    sites: list[FfnSite],
    encode: Callable[[str], list[int]],
    choose: Choose,
    *,
    texts: tuple[str, ...] = PROMPTS,
    tokens: int,
    max_length: int,
    tolerance: float | None = None,
    smooth: bool = True,
) -> Reference:
    """Compute the reference of prompts.

    Args:
        model: The eager model, in eval mode.
        sites: Its FFNs.
        encode: Tokeniser; gives token ids with the model's special tokens.
        choose: Neuron choice for the sparse part.
        texts: The prompts.
        tokens: Greedy tokens N for each prompt, as far as the context allows.
        max_length: Context length of the artifact.
        tolerance: Error that counts as equal, of logits and scores alike; see Tolerance. None: the
            usual one, or when the model is not smooth, what a tiny disturbance makes of it.
        smooth: Whether the model computes without rounding its activations.
    """
    prompts, errors = [], []
    with torch.no_grad(), progress("eager reference", len(texts), "prompts") as task:
        for text in texts:
            ids = torch.tensor(encode(text))[: max(1, max_length // 4)]
            count = max(2, min(tokens, max_length - 2 * len(ids)))
            prompts.append(_prompt(model, sites, ids, choose, count))
            if tolerance is None and not smooth:
                errors.append(_disturbance(model, sites, prompts[-1]))
            task.advance()
    usual = tolerance or SMOOTH_TOLERANCE
    return Reference(
        tuple(prompts),
        Tolerance(
            logits=max([usual, *(MARGIN * error.logits for error in errors)]),
            scores=max([usual, *(MARGIN * error.scores for error in errors)]),
        ),
    )


def _disturbance(
    model: PreTrainedModel, sites: list[FfnSite], prompt: PromptReference
) -> Tolerance:
    """How far the prompt's results move when its embeddings change a little.

    Rounded activations make a model chaotic: two correct runtimes differ by as much.
    """
    random = torch.Generator().manual_seed(0)

    def disturb(_: nn.Module, __: object, out: Tensor) -> Tensor:
        return out * (1 + DISTURBANCE * torch.randn(out.shape, generator=random))

    hook = model.get_input_embeddings().register_forward_hook(disturb)
    try:
        with score_sums(model, sites) as sums:
            ids = torch.from_numpy(prompt.input_ids)[None]
            moved = model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, -1]
    finally:
        hook.remove()
    wanted = (prompt.abs_sum, prompt.sq_sum)
    return Tolerance(
        logits=logit_error(moved.numpy(), prompt.prefill_logits),
        scores=max(
            score_error(got, expected) for got, expected in zip(sums(), wanted, strict=True)
        ),
    )


def _prompt(
    model: PreTrainedModel, sites: list[FfnSite], ids: Tensor, choose: Choose, count: int
) -> PromptReference:
    with score_sums(model, sites) as sums:
        prefill = model(input_ids=ids[None], use_cache=False, logits_to_keep=1).logits[0, -1]
    statistics = LocalStatistics(*sums(), float(len(ids)))
    greedy, margins = _greedy(model, ids, count)
    indices = choose(statistics)
    continued = torch.cat([ids, greedy])
    with masked(model, sites, indices, first=len(ids)):
        sparse = model(
            input_ids=continued[None, :-1], use_cache=False, logits_to_keep=count - 1
        ).logits[0]
    resumed = model(
        input_ids=torch.cat([continued, ids])[None], use_cache=False, logits_to_keep=1
    ).logits[0, -1]
    return PromptReference(
        input_ids=ids.numpy(),
        prefill_logits=prefill.numpy(),
        abs_sum=statistics.abs_sum,
        sq_sum=statistics.sq_sum,
        greedy=greedy.numpy(),
        greedy_margin=margins.numpy(),
        indices=indices,
        sparse_tokens=sparse.argmax(-1).numpy(),
        sparse_margin=_margin(sparse).numpy(),
        sparse_logits=sparse[-1].numpy().copy(),
        resumed_logits=resumed.numpy(),
    )


def _greedy(model: PreTrainedModel, ids: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The next ``count`` greedy tokens and by how much each led."""
    cache, step, tokens, margins = DynamicCache(config=model.config), ids[None], [], []
    for _ in range(count):
        logits = model(
            input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1
        ).logits[0, -1]
        tokens.append(logits.argmax())
        margins.append(_margin(logits))
        step = tokens[-1].view(1, 1)
    return torch.stack(tokens), torch.stack(margins)


def _margin(logits: Tensor) -> Tensor:
    first, second = logits.topk(2, dim=-1).values.unbind(-1)
    return first - second


@contextmanager
def score_sums(
    model: PreTrainedModel, sites: list[FfnSite]
) -> Iterator[Callable[[], tuple[np.ndarray, np.ndarray]]]:
    """Inside the block FFNs sum abs(u) and u^2 over a pass; call the result for two [L,F]."""
    unit: list[Tensor] = [torch.empty(0)] * sum(site.rows for site in sites)

    def hook(layer: int) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def record(_: nn.Module, inputs: tuple[Tensor]) -> None:
            hidden = inputs[0][0].double()
            unit[layer] = hidden / hidden.norm(dim=-1, keepdim=True).clamp_min(1e-30)

        return record

    def result() -> tuple[np.ndarray, np.ndarray]:
        sums = (torch.stack([f(u).sum(0) for u in unit]) for f in (torch.abs, torch.square))
        first, second = (x.float().numpy() for x in sums)
        return first, second

    with down_hooks(model, sites, hook):
        yield result


@contextmanager
def masked(
    model: PreTrainedModel, sites: list[FfnSite], indices: IndexArray, *, first: int
) -> Iterator[None]:
    """Inside the block only ``indices`` [L,K] act, for the tokens from position ``first`` on.

    Rows may end in padding, -1, which falls into a column that is dropped.
    """
    masks = torch.zeros(len(indices), sites[0].d_ff + 1)
    masks[torch.arange(len(indices))[:, None], torch.from_numpy(indices).long()] = 1.0
    masks = masks[:, :-1]

    def hook(layer: int) -> Callable[[nn.Module, tuple[Tensor]], tuple[Tensor]]:
        def apply(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
            hidden = inputs[0].clone()
            hidden[:, first:] *= masks[layer]
            return (hidden,)

        return apply

    with down_hooks(model, sites, hook):
        yield
