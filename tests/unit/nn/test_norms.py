"""What stands for a norm computes as the norm does, or the norm is refused."""

from __future__ import annotations

import pytest
import torch
from tiny_models import CONTEXT, tiny_model
from torch import nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.stablelm.modeling_stablelm import StableLmLayerNormPerHead

from glass_export.capture import capture
from glass_export.errors import UnsupportedModelError
from glass_export.families import find_ffns
from glass_export.nn.norms import SemanticHeadNorm, SemanticLayerNorm, SemanticNorm

WIDTH = 24


def randomised(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.data.normal_()
    return module.requires_grad_(False)


@pytest.mark.parametrize(
    ("stand_in", "original"),
    [
        (SemanticNorm, nn.RMSNorm(WIDTH, eps=1e-5)),
        (SemanticNorm, Gemma2RMSNorm(WIDTH, eps=1e-5)),
        (SemanticLayerNorm, nn.LayerNorm(WIDTH, eps=1e-5)),
        (SemanticLayerNorm, nn.LayerNorm(WIDTH, eps=1e-5, bias=False)),
    ],
)
def test_a_norm_is_that_of_its_original(stand_in: type[nn.Module], original: nn.Module) -> None:
    x = torch.randn(2, 5, WIDTH) * torch.tensor([1.0, 1e-3]).view(2, 1, 1)
    got = stand_in(randomised(original), "norm")(x)
    torch.testing.assert_close(got, original(x), atol=1e-6, rtol=1e-5)


def test_norms_of_heads_are_those_of_each_head() -> None:
    original = randomised(StableLmLayerNormPerHead(WIDTH, 3, eps=1e-5))
    x = torch.randn(1, 3, 5, WIDTH)
    torch.testing.assert_close(SemanticHeadNorm(original, "norm")(x), original(x))


class OddRMSNorm(nn.Module):
    def __init__(self, eps: float = 0.1) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.rand(64)), eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


class NoMean(OddRMSNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class OtherEps(nn.LayerNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, 1e-6)


@pytest.mark.parametrize(
    ("stand_in", "odd", "message"),
    [
        (SemanticNorm, OddRMSNorm(), r"a\.norm: OddRMSNorm is not an RMS norm"),
        (SemanticLayerNorm, NoMean(), r"a\.norm: NoMean is not a layer norm"),
        (SemanticLayerNorm, OtherEps(64, eps=1e-5), r"a\.norm: OtherEps is not a layer norm"),
        (
            SemanticLayerNorm,
            nn.LayerNorm(64, elementwise_affine=False),
            r"a\.norm: LayerNorm is not a layer norm with a weight",
        ),
        (
            SemanticHeadNorm,
            StableLmLayerNormPerHead(WIDTH, 3, bias=True),
            r"a\.norm: StableLmLayerNormPerHead is not a bias-free layer norm",
        ),
    ],
)
def test_another_norm_is_refused(stand_in: type[nn.Module], odd: nn.Module, message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        stand_in(randomised(odd), "a.norm")


def test_an_unknown_norm_of_a_model_is_named() -> None:
    model = tiny_model("llama")
    model.model.norm = OddRMSNorm()
    with pytest.raises(UnsupportedModelError, match=r"model\.norm: OddRMSNorm is not an RMS norm"):
        capture(model, find_ffns(model), max_length=CONTEXT)
