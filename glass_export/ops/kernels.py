"""The native library's operators as torch sees them: schema, shape rule and torch definition.

These are what ``csrc`` implements (namespace ``glass``), each with an ``.out`` form, which
ExecuTorch calls. Targets lower the semantic operators of this package (``glass_ir``) to them.

Legend: S tokens, D model width, F FFN width, K kept neurons, L layers, H query heads, G key/value
heads, E head width, C cache length.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import Tensor
from torch.library import Library, register_fake

from glass_export.ops.attention import attend, unpack
from glass_export.ops.ffn import ACTIVATIONS
from glass_export.ops.rope import rotate
from glass_export.spec import Activation

ABI_VERSION = 1
"""As in csrc/include/glass/abi.h: an artifact runs only on a library of its own version."""

ACTIVATION_CODES: dict[str, int] = {name: code for code, name in enumerate(get_args(Activation))}
"""The integers that the operators take: glass::Activation in csrc/include/glass/ffn.h."""

_NAMES = tuple(ACTIVATION_CODES)
_LIBRARY = Library("glass", "DEF")


def _define(
    inputs: str, outputs: tuple[str, ...], fake: Callable[..., Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register an operator under its function's name, with the form that writes into ``outputs``.

    Args:
        inputs: The schema's arguments.
        outputs: Names of the outputs, as the ``.out`` form calls them.
        fake: Shape rule; takes the inputs.
    """
    results = ", ".join("Tensor" for _ in outputs)
    aliases = [f"Tensor({letter}!)" for letter, _ in zip("wxyz", outputs, strict=False)]
    buffers = ", ".join(f"{alias} {name}" for alias, name in zip(aliases, outputs, strict=True))
    single = len(outputs) == 1

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__
        _LIBRARY.define(f"{name}({inputs}) -> {results if single else f'({results})'}")
        _LIBRARY.define(
            f"{name}.out({inputs}, *, {buffers}) -> "
            + (aliases[0] if single else f"({', '.join(aliases)})")
        )

        @functools.wraps(function)
        def into(*args: Any, **kwargs: Any) -> Any:
            targets = [kwargs.pop(output) for output in outputs]
            values = function(*args, **kwargs)
            for target, value in zip(targets, (values,) if single else values, strict=True):
                target.resize_(value.shape).copy_(value)
            return targets[0] if single else tuple(targets)

        _LIBRARY.impl(name, function, "CompositeExplicitAutograd")
        _LIBRARY.impl(f"{name}.out", into, "CompositeExplicitAutograd")
        register_fake(f"glass::{name}", fake, lib=_LIBRARY)
        return function

    return register


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _gated(x: Tensor, bundle: Tensor, activation: int) -> Tensor:
    gate, up, _ = bundle.unbind(1)
    return ACTIVATIONS[_NAMES[activation]](x @ gate.T) * (x @ up.T)


@_define(
    "Tensor x, Tensor bundle, Tensor indices, int layer, int activation",
    ("out",),
    lambda x, bundle, indices, layer, activation: _like(x),
)
def sparse_ffn(x: Tensor, bundle: Tensor, indices: Tensor, layer: int, activation: int) -> Tensor:
    """Gated FFN of the neurons ``indices[layer]`` alone, read in place from their bundles.

    Shape: x [..,S,D], bundle [F,3,D] (gate, up and down row of each neuron), indices int32 [L,K],
    each row ascending without repetition -> [..,S,D].
    """
    kept = bundle[indices[layer].long()]
    return _gated(x, kept, activation) @ kept[:, 2]


@_define(
    "Tensor x, Tensor bundle, Tensor score_weights, int activation",
    ("out", "abs_sum", "sq_sum"),
    lambda x, bundle, score_weights, activation: (
        _like(x),
        x.new_empty(bundle.shape[0]),
        x.new_empty(bundle.shape[0]),
    ),
)
def dense_ffn(
    x: Tensor, bundle: Tensor, score_weights: Tensor, activation: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gated FFN of all neurons with the sums of their local scores; see ``glass_ir::scoring_ffn``.

    Shape: x [1,S,D], bundle [F,3,D], score_weights [S] -> [1,S,D], [F], [F].
    """
    hidden = _gated(x, bundle, activation)
    unit = hidden[0] * torch.rsqrt(hidden[0].pow(2).sum(-1, keepdim=True).clamp_min(1e-30))
    return hidden @ bundle[:, 2], score_weights @ unit.abs(), score_weights @ unit.pow(2)


@_define("Tensor x, Tensor weight, float eps", ("out",), lambda x, weight, eps: _like(x))
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """As ``glass_ir::rms_norm``. Shape: x [..,D], weight [D] -> [..,D]."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


@_define(
    "Tensor x, Tensor skip, Tensor weight, float eps",
    ("out", "sum"),
    lambda x, skip, weight, eps: (_like(x), _like(x)),
)
def add_rms_norm(x: Tensor, skip: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """rms_norm(x + skip), and the sum. Shape: x and skip [..,D] -> [..,D], [..,D]."""
    total = x + skip
    return rms_norm(total, weight, eps), total


def _attention_shape(
    query: Tensor, key: Tensor | None, value: Tensor | None, key_cache: Tensor, *rest: Any
) -> Tensor:
    heads = rest[4]
    return query.new_empty((*query.shape[:-1], heads * key_cache.shape[3]))


@_define(
    "Tensor query, Tensor? key, Tensor? value, Tensor(a!) key_cache, Tensor(b!) value_cache, "
    "Tensor position, Tensor cos, Tensor sin, int heads, float scale, int window, float softcap",
    ("out",),
    _attention_shape,
)
def rotary_attention(
    query: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    key_cache: Tensor,
    value_cache: Tensor,
    position: Tensor,
    cos: Tensor,
    sin: Tensor,
    heads: int,
    scale: float,
    window: int,
    softcap: float,
) -> Tensor:
    """As ``glass_ir::rotary_attention``, but the new keys and values are written in place.

    Shape: query [1,S,H*E] with key and value [1,S,G*E], or packed [1,S,(H+2G)*E] with None; caches
    [1,G,C,E], position int64 [1], tables [C,R/2] -> [1,S,H*E].
    """
    query, key, value = unpack(query, key, value, heads, key_cache)
    query, key = (rotate(part, cos, sin, position) for part in (query, key))
    out, keys, values = attend(
        query, key, value, key_cache, value_cache, position, scale, window, softcap
    )
    key_cache.copy_(keys)
    value_cache.copy_(values)
    return out
