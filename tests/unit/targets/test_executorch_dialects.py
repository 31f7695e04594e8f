"""Both dialects of ExecuTorch on every family, as torch modules: numbers without a program."""

from __future__ import annotations

import pytest
import torch
from tiny_models import CONFIGS, CONTEXT, D_FF, SHALLOW, STOCK, VOCABULARY, tiny_model

from glass_export.capture import capture
from glass_export.families import find_ffns
from glass_export.graph import CapturedGraph, Weight
from glass_export.passes import default_passes
from glass_export.spec import FfnSite
from glass_export.targets.executorch.constants import ConstantStore
from glass_export.targets.executorch.module import Dialect, LoweredModule
from glass_export.targets.executorch.native import native
from glass_export.targets.executorch.portable import PORTABLE
from glass_export.verify.eager import masked

TOKENS = torch.randint(2, VOCABULARY, (40,), generator=torch.Generator().manual_seed(0))
PROMPT = 32
DIALECTS = {"native": native("fp32"), "portable": PORTABLE}


class LoadedStore(ConstantStore):
    """Every weight in memory, as no program is written."""

    def defer(self, weight: Weight) -> torch.Tensor:
        return self.load(weight)


def run(
    graphs: list[CapturedGraph], sites: list[FfnSite], dialect: Dialect, kept: torch.Tensor
) -> torch.Tensor:
    """Logits of TOKENS: the prompt in two chunks, the rest token by token through ``kept``."""
    prefill, decode = (
        LoweredModule(graph, tuple(sites), LoadedStore(), dialect) for graph in graphs
    )
    for name, cache in prefill.named_buffers():
        if name.startswith(("key_cache", "value_cache")):
            setattr(decode, name, cache)
    got = []
    for begin, end in ((0, 3), (3, PROMPT)):
        rows, position = torch.arange(end - begin), torch.tensor([begin])
        got.append(prefill(TOKENS[None, begin:end], position, torch.ones(len(rows)), rows)[0][0])
    for place in range(PROMPT, len(TOKENS)):
        got.append(decode(TOKENS[None, place : place + 1], torch.tensor([place]), kept)[0][0])
    return torch.cat(got)


@pytest.mark.parametrize("family", CONFIGS)
@torch.no_grad()
def test_chunks_of_prefill_and_sparse_decode_are_those_of_the_eager_model(family: str) -> None:
    model = tiny_model(family, layers=SHALLOW[family])
    sites = find_ffns(model)
    rows = sum(site.rows for site in sites)
    kept = torch.arange(0, D_FF, 2, dtype=torch.int32).repeat(rows, 1)
    with masked(model, sites, kept.numpy(), first=PROMPT):
        wanted = model(TOKENS[None]).logits[0]
    graphs = [default_passes()(g).graph for g in capture(model, sites, max_length=CONTEXT)]
    dialects = DIALECTS if family in STOCK else {"native": DIALECTS["native"]}
    for name, dialect in dialects.items():
        got = run(graphs, sites, dialect, kept)
        torch.testing.assert_close(
            got, wanted, atol=2e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
