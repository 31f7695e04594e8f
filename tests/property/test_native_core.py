"""FFN, norms and attention of the native core against their definitions, per instruction set."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from ffn_definition import DEFINITIONS, F64, Ffn, assert_near
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from native_calls import (
    ACTIVATIONS,
    F32,
    I32,
    Attention,
    NativeCore,
    NativeError,
    f32,
)

seeds = st.integers(0, 2**32 - 1)
threads = st.integers(1, 5)
# A core that is set once per test serves all of its examples.
each_isa = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@st.composite
def ffns(draw: st.DrawFn, most_tokens: int) -> Ffn:
    d_ff, d_model = draw(st.integers(1, 150)), draw(st.integers(1, 130))
    tokens = draw(st.integers(1, most_tokens))
    rng = np.random.default_rng(draw(seeds))
    scale = draw(st.sampled_from([0.1, 1.0, 20.0]))
    rows = draw(st.sampled_from([2, 3]))
    bundles = rng.standard_normal((d_ff, rows, d_model)) / np.sqrt(d_model)
    bundles[:, -1] *= np.sqrt(d_model / d_ff)
    bias = f32(rng.standard_normal(d_ff)) if rows == 2 and draw(st.booleans()) else None
    x = rng.standard_normal((tokens, d_model)) * scale
    return Ffn(f32(bundles), f32(x), draw(st.sampled_from(ACTIVATIONS)), bias)


@each_isa
@given(ffns(most_tokens=5), st.data(), threads)
def test_sparse_ffn_is_the_ffn_of_the_chosen_neurons(
    core: NativeCore, ffn: Ffn, data: st.DataObject, threads: int
) -> None:
    everyone = st.sampled_from(range(len(ffn.bundles)))
    chosen = data.draw(st.sets(everyone, min_size=1) | st.just(set(range(len(ffn.bundles)))))
    neurons: I32 = np.array(sorted(chosen), np.int32)
    y = core.sparse_ffn(ffn.bundles, ffn.activation, ffn.x, neurons, threads, plain=ffn.plain)
    assert_near(y, ffn.hidden()[:, neurons] @ ffn.down()[neurons], ffn.scale())


@each_isa
@given(ffns(most_tokens=5), st.data())
def test_other_neurons_do_not_matter(core: NativeCore, ffn: Ffn, data: st.DataObject) -> None:
    everyone = st.sampled_from(range(len(ffn.bundles)))
    neurons: I32 = np.array(sorted(data.draw(st.sets(everyone, min_size=1))), np.int32)
    y = core.sparse_ffn(ffn.bundles, ffn.activation, ffn.x, neurons, plain=ffn.plain)
    garbage = np.full_like(ffn.bundles, np.nan)
    garbage[neurons] = ffn.bundles[neurons]
    again = core.sparse_ffn(garbage, ffn.activation, ffn.x, neurons, plain=ffn.plain)
    np.testing.assert_array_equal(again, y)


@each_isa
@given(ffns(most_tokens=5), st.data(), st.integers(1, 40), threads)
def test_padding_of_a_row_changes_no_bit(
    core: NativeCore, ffn: Ffn, data: st.DataObject, padding: int, threads: int
) -> None:
    everyone = st.sampled_from(range(len(ffn.bundles)))
    neurons: I32 = np.array(sorted(data.draw(st.sets(everyone, min_size=1))), np.int32)
    padded = np.pad(neurons, (0, padding), constant_values=-1)
    y = core.sparse_ffn(ffn.bundles, ffn.activation, ffn.x, neurons, threads, plain=ffn.plain)
    again = core.sparse_ffn(ffn.bundles, ffn.activation, ffn.x, padded, threads, plain=ffn.plain)
    np.testing.assert_array_equal(again, y)


malformed_rows = st.lists(st.integers(-1, 5), min_size=1, max_size=12).filter(
    lambda row: row[0] == -1 or any(a == -1 < b for a, b in pairwise(row))
)


@each_isa
@given(malformed_rows)
def test_padding_that_is_not_at_the_end_of_a_row_is_refused(
    core: NativeCore, row: list[int]
) -> None:
    bundles, x = np.ones((6, 3, 4), np.float32), np.ones((1, 4), np.float32)
    with pytest.raises(NativeError, match="padding misplaced"):
        core.sparse_ffn(bundles, "relu", x, np.array(row, np.int32))


@each_isa
@given(ffns(most_tokens=200), threads, seeds)
def test_dense_ffn_gives_output_and_scores(
    core: NativeCore, ffn: Ffn, threads: int, seed: int
) -> None:
    weights = f32(np.random.default_rng(seed).integers(0, 2, len(ffn.x)))
    y, abs_sum, sq_sum = core.dense_ffn(
        ffn.bundles, ffn.activation, ffn.x, weights, threads, plain=ffn.plain
    )
    hidden = ffn.hidden()
    norms = np.sqrt((hidden**2).sum(-1, keepdims=True)).clip(1e-15)
    unit = hidden / norms
    rounding = 1e-5 * (np.sqrt((ffn.hidden_scale() ** 2).sum(-1, keepdims=True)) / norms)
    assert_near(y, hidden @ ffn.down(), ffn.scale())
    assert_near(abs_sum, weights @ np.abs(unit), weights @ (rounding + 0 * unit), 1.0)
    squares = weights @ (2 * rounding * np.abs(unit) + rounding**2)
    assert_near(sq_sum, weights @ unit**2, squares, 1.0)


@each_isa
@given(ffns(most_tokens=200), threads)
def test_dense_ffn_does_not_depend_on_threads_beyond_rounding(
    core: NativeCore, ffn: Ffn, threads: int
) -> None:
    weights = np.ones(len(ffn.x), np.float32)
    first, again, serial = (
        core.dense_ffn(ffn.bundles, ffn.activation, ffn.x, weights, count, plain=ffn.plain)
        for count in (threads, threads, 1)
    )
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert_near(first[0], serial[0].astype(np.float64), ffn.scale(), 1e-6)
    np.testing.assert_array_equal(first[1:], serial[1:])


@each_isa
@given(st.sampled_from(ACTIVATIONS), seeds)
def test_activations_are_accurate_at_every_magnitude(
    core: NativeCore, activation: str, seed: int
) -> None:
    """One neuron, D = 2: its gate row takes the value, its up row a one."""
    draws = np.random.default_rng(seed).uniform(-2.2, 2.2, 64)
    value = f32(np.sign(draws) * 10.0 ** (2 * np.abs(draws) - 2.5))
    bundle = f32([[[1, 0], [0, 1], [1, 0]]])
    x = f32(np.stack([value, np.ones_like(value)], axis=1))
    y = core.sparse_ffn(bundle, activation, x, np.zeros(1, np.int32))
    expected = DEFINITIONS[activation](value.astype(np.float64))
    np.testing.assert_allclose(y[:, 0], expected, rtol=1e-5, atol=1e-33)


norm_inputs = st.tuples(st.integers(1, 9), st.integers(1, 300), seeds)


def _normalised(x: F64, weight: F32, eps: float) -> F64:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


@each_isa
@given(norm_inputs, st.sampled_from([0.0, 1e-6, 1e-2]))
def test_norms_are_their_definitions(
    core: NativeCore, inputs: tuple[int, int, int], eps: float
) -> None:
    rows, width, seed = inputs
    rng = np.random.default_rng(seed)
    x, skip = f32(rng.standard_normal((2, rows, width)))
    weight = f32(rng.standard_normal(width))
    assert_near(
        core.rms_norm(x, weight, eps), _normalised(x.astype(np.float64), weight, eps), 10.0, 1e-6
    )
    y, total = core.add_rms_norm(x, skip, weight, eps)
    np.testing.assert_array_equal(total, x + skip)
    assert_near(y, _normalised((x + skip).astype(np.float64), weight, eps), 10.0, 1e-6)


@dataclass(frozen=True)
class AttentionCase:
    """Inputs of one call; positions at or beyond ``position`` hold garbage before it."""

    query: F32
    key: F32
    value: F32
    tables: tuple[F32, F32]
    caches: tuple[F32, F32]
    attention: Attention

    def rotated(self, x: F32) -> F64:
        """x [S,heads,E] by the angles of its positions."""
        position, half = self.attention.position, self.tables[0].shape[1]
        rows = slice(position, position + len(x))
        cos, sin = (table[rows, None].astype(np.float64) for table in self.tables)
        out = x.astype(np.float64)
        first, second = out[..., :half].copy(), out[..., half : 2 * half].copy()
        out[..., :half] = first * cos - second * sin
        out[..., half : 2 * half] = second * cos + first * sin
        return out

    def filled_caches(self) -> tuple[F64, F64]:
        """Both caches [G,C,E] with the new rows."""
        rows = slice(self.attention.position, self.attention.position + len(self.key))
        keys, values = (cache.astype(np.float64) for cache in self.caches)
        keys[:, rows] = self.rotated(self.key).transpose(1, 0, 2)
        values[:, rows] = self.value.astype(np.float64).transpose(1, 0, 2)
        return keys, values

    def expected(self) -> F64:
        """y [S,H,E], token by token and head by head."""
        keys, values = self.filled_caches()
        query, (tokens, heads, _) = self.rotated(self.query), self.query.shape
        out = np.empty(self.query.shape)
        for token in range(tokens):
            end = self.attention.position + token + 1
            first = max(0, end - self.attention.window) if self.attention.window else 0
            for head in range(heads):
                group = head * len(keys) // heads
                logits = keys[group, first:end] @ query[token, head] * self.attention.scale
                if cap := self.attention.softcap:
                    logits = cap * np.tanh(logits / cap)
                weights = np.exp(logits - logits.max())
                out[token, head] = weights @ values[group, first:end] / weights.sum()
        return out


@st.composite
def attention_cases(draw: st.DrawFn) -> AttentionCase:
    group, kv_heads = draw(st.integers(1, 7)), draw(st.integers(1, 3))
    head_dim, tokens = draw(st.integers(2, 70)), draw(st.integers(1, 70))
    position, spare = draw(st.integers(0, 300)), draw(st.integers(0, 3))
    rotary = 2 * draw(st.integers(0, head_dim // 2))
    rng = np.random.default_rng(draw(seeds))
    context = position + tokens + spare
    caches = rng.standard_normal((2, kv_heads, context, head_dim))
    caches[:, :, position:] = np.nan
    window = draw(st.just(0) | st.integers(1, context + 5))
    if window:
        caches[:, :, : max(0, position - window + 1)] = np.nan
    angles = rng.uniform(0, 2 * np.pi, (context, rotary // 2))
    query = rng.standard_normal((tokens, group * kv_heads, head_dim)) * draw(
        st.sampled_from([1.0, 10.0])
    )
    key, value = rng.standard_normal((2, tokens, kv_heads, head_dim))
    softcap = draw(st.sampled_from([0.0, 2.0, 50.0]))
    attention = Attention(position=position, scale=head_dim**-0.5, window=window, softcap=softcap)
    tables = f32(np.cos(angles)), f32(np.sin(angles))
    return AttentionCase(
        f32(query), f32(key), f32(value), tables, (f32(caches[0]), f32(caches[1])), attention
    )


def _attend(core: NativeCore, case: AttentionCase, threads: int) -> tuple[F32, F32, F32]:
    caches = case.caches[0].copy(), case.caches[1].copy()
    y = core.rotary_attention(
        case.query, case.key, case.value, case.tables, caches, case.attention, threads
    )
    return y, *caches


@each_isa
@given(attention_cases(), threads)
def test_attention_is_its_definition(core: NativeCore, case: AttentionCase, threads: int) -> None:
    y, keys, values = _attend(core, case, threads)
    assert np.isfinite(y).all()  # what no token sees is NaN
    np.testing.assert_allclose(y, case.expected(), atol=3e-5)
    expected_keys, expected_values = case.filled_caches()
    np.testing.assert_allclose(keys, expected_keys, atol=1e-6)
    np.testing.assert_array_equal(values, f32(expected_values))


@each_isa
@given(attention_cases(), st.data())
def test_a_token_does_not_depend_on_later_ones(
    core: NativeCore, case: AttentionCase, data: st.DataObject
) -> None:
    tokens = len(case.query)
    assume(tokens > 1)
    kept = data.draw(st.integers(1, tokens - 1))
    before, *_ = _attend(core, case, 1)
    for array in (case.query, case.key, case.value):
        array[kept:] = np.nan
    after, *_ = _attend(core, case, 1)
    np.testing.assert_array_equal(after[:kept], before[:kept])
