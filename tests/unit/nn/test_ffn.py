"""FFNs in the place of a model's own: what they compute, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import tiny_model
from torch import Tensor, nn

from glass_export.errors import UnsupportedModelError
from glass_export.families import find_ffns
from glass_export.nn.ffn import Ffn, ScoringFfn, replaced_ffns
from glass_export.nn.hooks import down_hooks
from glass_export.ops.ffn import hidden_of

FAMILIES = ["llama", "phi3", "gpt_neox", "opt", "phi"]


class Written(Ffn):
    """The FFN by its definition, from the weights that operators are given."""

    def __call__(self, x: Tensor) -> Tensor:
        gate, up, down, bias = self.weights
        hidden = hidden_of(x, gate, up, bias, self.site.activation)
        return self.with_down_bias(hidden @ down.T)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_stays_the_same_with_its_ffns_written_out(family: str) -> None:
    model, tokens = tiny_model(family, layers=1), torch.arange(2, 14)[None]
    wanted, names = model(tokens).logits, {name for name, _ in model.named_modules()}
    sites, called = find_ffns(model), []

    def make(site: object) -> Ffn:
        called.append(site)
        return Written(model, sites[0])

    with replaced_ffns(model, sites, make):
        assert torch.allclose(model(tokens).logits, wanted, atol=1e-5)
    assert called == sites
    assert {name for name, _ in model.named_modules()} == names
    assert torch.equal(model(tokens).logits, wanted)
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_an_activation_that_is_not_the_configured_one_is_refused() -> None:
    model = tiny_model("gpt_neox", layers=1)
    (site,) = find_ffns(model)
    model.gpt_neox.layers[0].mlp.act = nn.Tanh()
    with pytest.raises(UnsupportedModelError, match=r"layers\.0\.mlp\.act: .* of gelu, expected"):
        ScoringFfn(model, site)
    ScoringFfn(model, replace(site, act=None, gate=None))


def test_a_plain_ffn_of_other_layers_than_linears_is_refused() -> None:
    model = tiny_model("opt", layers=1)
    model.model.decoder.layers[0].fc1 = nn.Sequential(model.model.decoder.layers[0].fc1)
    with pytest.raises(UnsupportedModelError, match=r"layers\.0\.fc1: got Sequential, expected"):
        find_ffns(model)


def test_an_unknown_activation_is_named_with_the_known_ones() -> None:
    model = tiny_model("phi", layers=1)
    model.config.hidden_act = "quick_gelu"
    with pytest.raises(UnsupportedModelError, match="'quick_gelu' of phi .* expected one of gelu"):
        find_ffns(model)


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_hooks_see_rows_of_a_batch(family: str) -> None:
    """OPT joins batch and sequence before its FFN."""
    model, shapes = tiny_model(family, layers=1), []
    tokens = torch.randint(2, 300, (3, 7))

    def make(layer: int) -> object:
        def hook(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
            shapes.append(inputs[0].shape)
            mask = torch.tensor([0.0, 1.0, 1.0])[:, None, None]
            return (inputs[0] * mask,)

        return hook

    wanted = model(tokens).logits
    with down_hooks(model, find_ffns(model), make):
        got = model(tokens).logits
    assert shapes == [torch.Size((3, 7, find_ffns(model)[0].d_ff))]
    assert torch.allclose(got[1:], wanted[1:], atol=1e-5) and not torch.allclose(got[0], wanted[0])
