"""Linear layers and embeddings of integer weights: the NumPy quantiser, and the native core."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from ffn_definition import F64, assert_near
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from native_calls import F32, U8, NativeCore, NativeError, f32
from numpy.typing import NDArray

from glass_export import bundles
from glass_export.bundles import BundleFormat
from glass_export.errors import LoweringError

FORMS = get_args(BundleFormat)
forms = st.sampled_from(FORMS)
seeds = st.integers(0, 2**32 - 1)
threads = st.integers(1, 5)
each_isa = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def _shifted(rows: U8) -> U8:
    """A copy that begins 2 bytes after a cache line: all that is promised is an even address."""
    memory = np.zeros(rows.size + 128, np.uint8)
    first = -memory.ctypes.data % 64 + 2
    copy = memory[first : first + rows.size].reshape(rows.shape)
    copy[...] = rows
    return copy


@dataclass(frozen=True)
class Linear:
    """A quantised layer and its input."""

    rows: U8
    form: BundleFormat
    x: F32
    bias: F32 | None

    def expected(self) -> F64:
        """y [S,N] of what the kernels should take weights and x for."""
        weights = bundles.dequantise_rows(self.rows, self.x.shape[1], self.form)
        x = bundles.quantise_tokens(self.x).astype(np.float64)
        return x @ weights.T.astype(np.float64) + (0 if self.bias is None else self.bias)

    def scale(self) -> F64:
        """The size of y [S,N] if no sum cancelled."""
        weights = bundles.dequantise_rows(self.rows, self.x.shape[1], self.form)
        sizes = np.abs(self.x).astype(np.float64) @ np.abs(weights.T).astype(np.float64)
        return sizes + (0 if self.bias is None else np.abs(self.bias))


@st.composite
def linears(draw: st.DrawFn, most_tokens: int) -> Linear:
    count, depth = draw(st.integers(1, 150)), 32 * draw(st.integers(1, 40))
    tokens = draw(st.integers(1, most_tokens))
    rng = np.random.default_rng(draw(seeds))
    form: BundleFormat = draw(forms)
    rows = bundles.quantise_rows(f32(rng.standard_normal((count, depth))), form)
    x = rng.standard_normal((tokens, depth)) * draw(st.sampled_from([0.0, 0.1, 20.0]))
    bias = f32(rng.standard_normal(count)) if draw(st.booleans()) else None
    return Linear(_shifted(rows), form, f32(x), bias)


@each_isa
@given(linears(most_tokens=1) | linears(most_tokens=40), threads)
def test_linear_is_that_of_the_dequantised_weights(
    core: NativeCore, layer: Linear, threads: int
) -> None:
    y = core.linear(layer.rows, layer.form, layer.x, layer.bias, threads)
    assert_near(y, layer.expected(), layer.scale(), 1e-6)


@each_isa
@given(linears(most_tokens=40), threads)
def test_a_token_has_the_same_numbers_alone_and_among_others(
    core: NativeCore, layer: Linear, threads: int
) -> None:
    together = core.linear(layer.rows, layer.form, layer.x, layer.bias, threads)
    alone = core.linear(layer.rows, layer.form, layer.x[-1:], layer.bias, threads)
    assert_near(together[-1:], alone.astype(np.float64), layer.scale()[-1:], 1e-6)


@each_isa
@given(forms, st.integers(1, 10), st.sampled_from([1, 9]), seeds)
def test_every_stored_byte_counts_as_defined(
    core: NativeCore, form: BundleFormat, groups: int, tokens: int, seed: int
) -> None:
    """Bytes that are no quantiser's: -128 and -8 times the largest x, all of one sign."""
    depth = 32 * groups
    rng = np.random.default_rng(seed)
    shape = 5, bundles.row_bytes(depth, form)
    rows = rng.choice(np.array([0, 255, 15, 240, 7, 128], np.uint8), shape)
    rows[0] = 0
    rows[:, -2 * groups :] = (0.01 * rng.standard_normal((5, groups))).astype("<f2").view(np.uint8)
    x = f32(rng.choice([-1.0, 1.0], (tokens, depth)))
    x[0] = 1
    layer = Linear(_shifted(rows), form, x, None)
    assert_near(core.linear(layer.rows, form, x), layer.expected(), layer.scale(), 1e-6)


@each_isa
@given(forms, st.integers(1, 40), st.lists(st.integers(0, 8), min_size=1, max_size=20), seeds)
def test_embedding_is_rows_of_the_weights(
    core: NativeCore, form: BundleFormat, groups: int, chosen: list[int], seed: int
) -> None:
    weights = f32(np.random.default_rng(seed).standard_normal((9, 32 * groups)))
    rows = _shifted(bundles.quantise_rows(weights, form))
    ids: NDArray[np.int64] = np.array(chosen, np.int64)
    meant = bundles.dequantise_rows(rows, 32 * groups, form)
    np.testing.assert_array_equal(core.embedding(rows, form, 32 * groups, ids), meant[ids])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", [-1, 9, 2**40])
def test_an_id_outside_the_embedding_is_refused(
    core: NativeCore, form: BundleFormat, bad: int
) -> None:
    rows = bundles.quantise_rows(np.ones((9, 32), np.float32), form)
    with pytest.raises(NativeError, match="index out of range"):
        core.embedding(rows, form, 32, np.array([0, bad], np.int64))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_stay_with_their_token(core: NativeCore, bad: float) -> None:
    weights = f32(np.random.default_rng(0).standard_normal((5, 64)))
    x = np.ones((9, 64), np.float32)
    x[3, 40] = bad
    for form in FORMS:
        y = core.linear(bundles.quantise_rows(weights, form), form, x)
        assert np.isnan(y[3]).all() and np.isfinite(np.delete(y, 3, axis=0)).all()


def test_other_weights_are_refused(core: NativeCore) -> None:
    rows, x = np.zeros((2, 4 * 40), np.uint8), np.ones((1, 40), np.float32)
    for form in ("int8", "int4", "float32"):
        with pytest.raises(NativeError, match="invalid argument"):
            core.linear(rows, form, x)
        with pytest.raises(NativeError, match="invalid argument"):
            core.embedding(rows, form, 40, np.zeros(1, np.int64))


@given(forms, st.integers(1, 60))
def test_both_sides_agree_on_the_size(native_core: Path, form: BundleFormat, groups: int) -> None:
    size = NativeCore(native_core).row_bytes(form, 32 * groups)
    assert size == bundles.row_bytes(32 * groups, form)


@given(forms, st.integers(1, 3), st.integers(1, 8), seeds)
def test_rows_are_quantised_as_bundles_are(
    form: BundleFormat, count: int, groups: int, seed: int
) -> None:
    weights = f32(np.random.default_rng(seed).standard_normal((count, 3, 32 * groups)))
    of_bundles = bundles.dequantise(bundles.quantise(weights, form), 32 * groups, form)
    rows = bundles.quantise_rows(weights.reshape(3 * count, -1), form)
    of_rows = bundles.dequantise_rows(rows, 32 * groups, form).reshape(weights.shape)
    np.testing.assert_array_equal(of_rows[:, :2], of_bundles[:, :2])  # down has outliers


@pytest.mark.parametrize("form", FORMS)
def test_many_rows_are_those_of_their_parts(form: BundleFormat) -> None:
    """More than are quantised at a time, and not a whole number of times as many."""
    weights = f32(np.random.default_rng(0).standard_normal((5001, 64)))
    parts = [bundles.quantise_rows(weights[i : i + 1000], form) for i in range(0, 5001, 1000)]
    rows = bundles.quantise_rows(weights, form)
    np.testing.assert_array_equal(rows, np.concatenate(parts))
    meant = [bundles.dequantise_rows(part, 64, form) for part in parts]
    np.testing.assert_array_equal(bundles.dequantise_rows(rows, 64, form), np.concatenate(meant))


def test_bytes_of_a_row_are_the_documented_ones() -> None:
    weights = np.zeros((1, 32), np.float32)
    weights[0, :3], weights[0, 16:18] = (7, 1, -2), (3, -7)
    assert bundles.quantise_rows(weights, "int4")[0, :4].tolist() == [0xBF, 0x19, 0x86, 0x88]
    assert bundles.quantise_rows(weights, "int4")[0, 16:].tolist() == [0x00, 0x3C]  # 1.0
    weights[0, :2] = (127, -127)
    assert bundles.quantise_rows(weights, "int8")[0, :2].tolist() == [255, 1]
    assert bundles.quantise_rows(weights, "int8")[0, 32:].tolist() == [0x00, 0x3C]


def test_what_cannot_be_quantised_is_refused() -> None:
    for weights in (np.ones((2, 33)), np.ones(32), np.full((1, 32), np.nan), np.full((1, 32), 1e9)):
        for form in FORMS:
            with pytest.raises(LoweringError, match=form):
                bundles.quantise_rows(f32(weights), form)
    with pytest.raises(LoweringError, match="expected uint8 rows"):
        bundles.dequantise_rows(np.zeros((1, 17), np.uint8), 32, "int4")
