"""Semantic operators in the place of norms; each is checked numerically against the original.

Legend: B batch, H heads, S tokens, E head width, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glass_export import ops
from glass_export.errors import UnsupportedModelError


class SemanticNorm(nn.Module):
    """Stands for any RMS norm; the effective weight is the original's own parameter or 1 + it."""

    def __init__(self, original: nn.Module, name: str) -> None:
        super().__init__()
        self.eps = _eps(original)
        parameter = original.get_parameter("weight")
        for weight in (parameter, nn.Parameter(1.0 + parameter.detach(), requires_grad=False)):
            self.weight = weight
            if _agree(self, original, _probe(parameter)):
                return
        raise UnsupportedModelError(
            f"{name}: {type(original).__name__} is not an RMS norm with weight w or 1 + w"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shape: x [..., D] -> [..., D]."""
        out: Tensor = ops.rms_norm(x, self.weight, self.eps)
        return out


class SemanticLayerNorm(nn.Module):
    """Stands for any layer norm over the last dimension with a weight and perhaps a bias."""

    def __init__(self, original: nn.Module, name: str) -> None:
        super().__init__()
        self.eps = _eps(original)
        parameters = dict(original.named_parameters())
        self.bias = parameters.get("bias")
        if "weight" in parameters:
            self.weight = parameters["weight"]
            if _agree(self, original, _probe(self.weight)):
                return
        raise UnsupportedModelError(
            f"{name}: {type(original).__name__} is not a layer norm with a weight"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shape: x [..., D] -> [..., D]."""
        out: Tensor = ops.layer_norm(x, self.weight, self.bias, self.eps)
        return out


class SemanticHeadNorm(nn.Module):
    """Stands for one bias-free layer norm for each head: normalised together, scaled apart."""

    unit: Tensor
    scale: Tensor

    def __init__(self, original: nn.Module, name: str) -> None:
        super().__init__()
        heads = list(original.get_submodule("norms").children())
        scale = torch.stack([head.get_parameter("weight").detach() for head in heads])
        self.eps = _eps(heads[0])
        self.register_buffer("unit", torch.ones_like(scale[0]), persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        probe = _probe(scale).unflatten(-1, scale.shape).transpose(0, 1)[None]
        if not _agree(self, original, probe):
            raise UnsupportedModelError(
                f"{name}: {type(original).__name__} is not a bias-free layer norm for each head"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Shape: x [B,H,S,E] -> [B,H,S,E]."""
        norm: Tensor = ops.layer_norm(x.transpose(1, 2), self.unit, None, self.eps)
        return (norm * self.scale).transpose(1, 2)


def _eps(norm: nn.Module) -> float:
    """Transformers has two names for it."""
    return float(getattr(norm, "variance_epsilon", getattr(norm, "eps", 0.0)))


def _probe(weight: Tensor) -> Tensor:
    """Two rows to compare norms by, the second so small that eps shows. [2,numel]."""
    row = torch.linspace(-2.0, 3.0, weight.numel(), device=weight.device)
    return torch.stack([row, 1e-3 * row])


def _agree(new: nn.Module, original: nn.Module, probe: Tensor) -> bool:
    return torch.allclose(new(probe), original(probe), rtol=1e-5, atol=1e-6)
