"""The native library's operators as torch sees them: schema, shape rule and torch definition.

These are what ``csrc`` implements (namespace ``glass``), each with an ``.out`` form, which
ExecuTorch calls. Targets lower the semantic operators of this package (``glass_ir``) to them.

Integer weights are uint8 bytes, whose format follows from their number and D; see
``glass_export.bundles``. Where weights are integers, tokens are rounded to int8 too.

Legend: S tokens, D model width, F FFN width, K kept neurons, L layers, N rows of a linear, H query
heads, G key/value heads, E head width, C cache length.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import Tensor
from torch.library import Library, register_fake

from glass_export import bundles
from glass_export.bundles import BundleFormat
from glass_export.errors import LoweringError
from glass_export.ops.attention import attend, unpack
from glass_export.ops.ffn import hidden_of, neurons_of
from glass_export.ops.rope import rotate
from glass_export.spec import Activation

ABI_VERSION = 2
"""As in csrc/include/glass/abi.h: an artifact runs only on a library of its own version."""

ACTIVATION_CODES: dict[str, int] = {name: code for code, name in enumerate(get_args(Activation))}
"""The integers that the operators take: glass::Activation in csrc/include/glass/ffn.h."""

_NAMES = tuple(ACTIVATION_CODES)
_LIBRARY = Library("glass", "DEF")


def define(
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


def like(x: Tensor) -> Tensor:
    """The shape rule of an output like ``x``."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _form(got: int, width: int, bytes_of: Callable[[int, BundleFormat], int]) -> BundleFormat:
    """The format whose rows or bundles of ``width`` weights have ``got`` bytes."""
    forms: tuple[BundleFormat, ...] = get_args(BundleFormat)
    for form in forms:
        if bytes_of(width, form) == got:
            return form
    wanted = " or ".join(f"{bytes_of(width, form)} ({form})" for form in forms)
    raise LoweringError(f"weights of width {width}: got {got} bytes a row, expected {wanted}")


def _rounded(x: Tensor) -> Tensor:
    """What the kernels with integer weights take x [..,D] for."""
    rows = x.detach().reshape(-1, x.shape[-1]).numpy()
    return torch.from_numpy(bundles.quantise_tokens(rows)).reshape(x.shape)


def floats_of(x: Tensor, bundle: Tensor, *, gated: bool) -> tuple[Tensor, Tensor]:
    """Tokens and bundles [F,3,D], or [F,2,D], as the kernels compute with them."""
    if bundle.dtype != torch.uint8:
        return x, bundle
    width = x.shape[-1]
    form = _form(bundle.shape[1], width, functools.partial(bundles.bundle_bytes, gated=gated))
    floats = bundles.dequantise(bundle.numpy(), width, form, gated=gated)
    return _rounded(x), torch.from_numpy(floats)


def gated_hidden(x: Tensor, bundle: Tensor, activation: int) -> Tensor:
    """The activation h. Shape: x [..,D], bundle [F,3,D] -> [..,F]."""
    gate, up, _ = bundle.unbind(1)
    return hidden_of(x, gate, up, None, _NAMES[activation])


def _plain(x: Tensor, bundle: Tensor, bias: Tensor | None, activation: int) -> Tensor:
    return hidden_of(x, None, bundle[:, 0], bias, _NAMES[activation])


def _with_scores(
    hidden: Tensor, down: Tensor, score_weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Output and score sums of h [1,S,F] and down [F,D]."""
    unit = hidden[0] * torch.rsqrt(hidden[0].pow(2).sum(-1, keepdim=True).clamp_min(1e-30))
    return hidden @ down, score_weights @ unit.abs(), score_weights @ unit.pow(2)


def _dense_shape(x: Tensor, bundle: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return like(x), x.new_empty(bundle.shape[0]), x.new_empty(bundle.shape[0])


@define(
    "Tensor x, Tensor bundle, Tensor indices, int layer, int activation",
    ("out",),
    lambda x, bundle, indices, layer, activation: like(x),
)
def sparse_ffn(x: Tensor, bundle: Tensor, indices: Tensor, layer: int, activation: int) -> Tensor:
    """Gated FFN of the neurons ``indices[layer]`` alone, read in place from their bundles.

    Shape: x [..,S,D], bundle [F,3,D] (gate, up and down row of each neuron) or uint8 [F,bytes],
    indices int32 [L,K], each row ascending without repetition, then padding, -1 -> [..,S,D].
    """
    x, kept = floats_of(x, bundle[neurons_of(indices[layer])], gated=True)
    return gated_hidden(x, kept, activation) @ kept[:, 2]


@define(
    "Tensor x, Tensor bundle, Tensor? bias, Tensor indices, int layer, int activation",
    ("out",),
    lambda x, bundle, bias, indices, layer, activation: like(x),
)
def plain_sparse_ffn(
    x: Tensor, bundle: Tensor, bias: Tensor | None, indices: Tensor, layer: int, activation: int
) -> Tensor:
    """:func:`sparse_ffn` of a plain FFN.

    Shape: x [..,S,D], bundle [F,2,D] (up and down row of each neuron) or uint8 [F,bytes], bias [F]
    or None, indices int32 [L,K] -> [..,S,D].
    """
    neurons = neurons_of(indices[layer])
    x, kept = floats_of(x, bundle[neurons], gated=False)
    return _plain(x, kept, None if bias is None else bias[neurons], activation) @ kept[:, 1]


@define(
    "Tensor x, Tensor bundle, Tensor score_weights, int activation",
    ("out", "abs_sum", "sq_sum"),
    _dense_shape,
)
def dense_ffn(
    x: Tensor, bundle: Tensor, score_weights: Tensor, activation: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gated FFN of all neurons with the sums of their local scores; see ``glass_ir::scoring_ffn``.

    Shape: x [1,S,D], bundle [F,3,D] or uint8 [F,bytes], score_weights [S] -> [1,S,D], [F], [F].
    """
    x, bundle = floats_of(x, bundle, gated=True)
    return _with_scores(gated_hidden(x, bundle, activation), bundle[:, 2], score_weights)


@define(
    "Tensor x, Tensor bundle, Tensor? bias, Tensor score_weights, int activation",
    ("out", "abs_sum", "sq_sum"),
    _dense_shape,
)
def plain_dense_ffn(
    x: Tensor, bundle: Tensor, bias: Tensor | None, score_weights: Tensor, activation: int
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`dense_ffn` of a plain FFN.

    Shape: x [1,S,D], bundle [F,2,D] or uint8 [F,bytes], bias [F] or None, score_weights [S]
    -> [1,S,D], [F], [F].
    """
    x, bundle = floats_of(x, bundle, gated=False)
    return _with_scores(_plain(x, bundle, bias, activation), bundle[:, 1], score_weights)


@define(
    "Tensor x, Tensor weight, Tensor? bias",
    ("out",),
    lambda x, weight, bias: x.new_empty((*x.shape[:-1], weight.shape[0])),
)
def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer, x weight^T + bias, of integer weights.

    Shape: x [..,D], weight uint8 [N,bytes], bias [N] -> [..,N].
    """
    width = x.shape[-1]
    form = _form(weight.shape[1], width, bundles.row_bytes)
    rows = torch.from_numpy(bundles.dequantise_rows(weight.numpy(), width, form))
    return torch.nn.functional.linear(_rounded(x), rows, bias)


@define(
    "Tensor weight, Tensor indices, int width",
    ("out",),
    lambda weight, indices, width: weight.new_empty((*indices.shape, width), dtype=torch.float32),
)
def embedding(weight: Tensor, indices: Tensor, width: int) -> Tensor:
    """Rows of an integer table as numbers.

    Shape: weight uint8 [N,bytes] of rows of ``width`` D, indices int64 [..] -> [..,D].
    """
    form = _form(weight.shape[1], width, bundles.row_bytes)
    rows = bundles.dequantise_rows(weight[indices.reshape(-1)].numpy(), width, form)
    return torch.from_numpy(rows).reshape(*indices.shape, width)


@define("Tensor x, Tensor weight, float eps", ("out",), lambda x, weight, eps: like(x))
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """As ``glass_ir::rms_norm``. Shape: x [..,D], weight [D] -> [..,D]."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


@define(
    "Tensor x, Tensor skip, Tensor weight, float eps",
    ("out", "sum"),
    lambda x, skip, weight, eps: (like(x), like(x)),
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


@define(
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
