"""Integer bundles: the NumPy quantiser, and the native FFN against it, per instruction set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from ffn_definition import Ffn, assert_near
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from native_calls import ACTIVATIONS, F32, I32, U8, NativeCore, NativeError, Plain, f32
from numpy.typing import NDArray

from glass_export import bundles
from glass_export.bundles import BundleFormat
from glass_export.errors import LoweringError

FORMS = get_args(BundleFormat)
seeds = st.integers(0, 2**32 - 1)
threads = st.integers(1, 5)
each_isa = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@dataclass(frozen=True)
class Layer:
    """Quantised weights, an input, and what the kernels should take both for."""

    stored: U8
    form: BundleFormat
    x: F32
    activation: str
    plain: Plain | None = None

    def meant(self) -> Ffn:
        gated, bias = self.plain is None, self.plain and self.plain.bias
        weights = bundles.dequantise(self.stored, self.x.shape[1], self.form, gated=gated)
        return Ffn(weights, bundles.quantise_tokens(self.x), self.activation, bias)

    def sparse(self, core: NativeCore, stored: U8, neurons: I32, threads: int) -> F32:
        """What the core makes of such bundles."""
        return core.sparse_ffn(
            stored, self.activation, self.x, neurons, threads, self.form, self.plain
        )


def add_outliers(down: NDArray[np.float64], rng: np.random.Generator) -> None:
    """Make some down rows [F,D] zero, others huge in one to three columns, often alike."""
    for row in down:
        if rng.random() < 0.2:
            row[:] = 0
        elif rng.random() < 0.7:
            columns = rng.integers(0, len(row), rng.integers(1, 4))
            row[columns] = rng.choice([-1, 1], len(columns)) * rng.choice([1.0, 3.0, 50.0])


@st.composite
def layers(draw: st.DrawFn, most_tokens: int, least_tokens: int = 1) -> Layer:
    d_ff, d_model = draw(st.integers(1, 150)), 32 * draw(st.integers(1, 40))
    tokens = draw(st.integers(least_tokens, most_tokens))
    rng = np.random.default_rng(draw(seeds))
    rows = draw(st.sampled_from([2, 3]))
    weights = rng.standard_normal((d_ff, rows, d_model)) / np.sqrt(d_model)
    weights[:, -1] *= np.sqrt(d_model / d_ff)
    add_outliers(weights[:, -1], rng)
    x = rng.standard_normal((tokens, d_model)) * draw(st.sampled_from([0.0, 0.1, 1.0, 20.0]))
    form: BundleFormat = draw(st.sampled_from(FORMS))
    stored = bundles.quantise(f32(weights), form)
    bias = f32(rng.standard_normal(d_ff)) if draw(st.booleans()) else None
    plain = Plain(bias) if rows == 2 else None
    return Layer(stored, form, f32(x), draw(st.sampled_from(ACTIVATIONS)), plain)


@each_isa
@given(layers(most_tokens=5), st.data(), threads)
def test_sparse_ffn_is_that_of_the_dequantised_weights(
    core: NativeCore, layer: Layer, data: st.DataObject, threads: int
) -> None:
    everyone = range(len(layer.stored))
    chosen = data.draw(st.sets(st.sampled_from(everyone), min_size=1) | st.just(set(everyone)))
    neurons: I32 = np.array(sorted(chosen), np.int32)
    y = layer.sparse(core, layer.stored, neurons, threads)
    ffn = layer.meant()
    assert_near(y, ffn.hidden()[:, neurons] @ ffn.down()[neurons], ffn.scale())
    garbage = np.full_like(layer.stored, 0xFF)
    garbage[neurons] = layer.stored[neurons]
    again = layer.sparse(core, garbage, neurons, threads)
    np.testing.assert_array_equal(again, y)


@each_isa
@given(layers(most_tokens=3), st.data(), st.integers(1, 40), threads)
def test_padding_of_a_row_changes_no_bit(
    core: NativeCore, layer: Layer, data: st.DataObject, padding: int, threads: int
) -> None:
    everyone = st.sampled_from(range(len(layer.stored)))
    neurons: I32 = np.array(sorted(data.draw(st.sets(everyone, min_size=1))), np.int32)
    padded = np.pad(neurons, (0, padding), constant_values=-1)
    y, again = (layer.sparse(core, layer.stored, row, threads) for row in (neurons, padded))
    np.testing.assert_array_equal(again, y)


@each_isa
@given(layers(most_tokens=4) | layers(least_tokens=5, most_tokens=140), threads, seeds)
def test_dense_ffn_gives_output_and_scores(
    core: NativeCore, layer: Layer, threads: int, seed: int
) -> None:
    weights = f32(np.random.default_rng(seed).integers(0, 2, len(layer.x)))
    y, abs_sum, sq_sum = core.dense_ffn(
        layer.stored, layer.activation, layer.x, weights, threads, layer.form, layer.plain
    )
    ffn = layer.meant()
    hidden = ffn.hidden()
    norms = np.sqrt((hidden**2).sum(-1, keepdims=True)).clip(1e-15)
    unit = hidden / norms
    rounding = 1e-5 * (np.sqrt((ffn.hidden_scale() ** 2).sum(-1, keepdims=True)) / norms)
    assert_near(y, hidden @ ffn.down(), ffn.scale())
    assert_near(abs_sum, weights @ np.abs(unit), weights @ (rounding + 0 * unit), 1.0)
    squares = weights @ (2 * rounding * np.abs(unit) + rounding**2)
    assert_near(sq_sum, weights @ unit**2, squares, 1.0)


@each_isa
@given(st.sampled_from(FORMS), st.integers(1, 10), seeds)
def test_every_stored_byte_counts_as_defined(
    core: NativeCore, form: BundleFormat, groups: int, seed: int
) -> None:
    """Random bytes reach the extremes of the integers, -128 and -8 among them.

    Outliers lie anywhere, also in columns that do not exist.
    """
    d_model = 32 * groups
    rng = np.random.default_rng(seed)
    stored = rng.choice(np.array([0, 255, 15, 240, 7, 128], np.uint8), (9, 3 * d_model * 4))
    stored = np.ascontiguousarray(stored[:, : bundles.bundle_bytes(d_model, form)])
    row = d_model if form == "int8" else d_model // 2
    scales = (0.01 * rng.standard_normal((9, 3 * groups))).astype("<f2")
    outliers = np.empty((9, bundles.OUTLIERS, 2), "<u2")
    outliers[..., 0] = rng.choice(
        [0, d_model // 2, d_model - 1, d_model, 65535], outliers.shape[:2]
    )
    outliers[..., 1] = rng.standard_normal(outliers.shape[:2]).astype("<f2").view("<u2")
    parts = scales.view(np.uint8), outliers.reshape(9, -1).view(np.uint8)
    end = 3 * row + 6 * groups + parts[1].shape[1]
    stored[:, 3 * row : end] = np.concatenate(parts, axis=1)
    x = f32(rng.choice([-1.0, 1.0], (2, d_model)))
    layer = Layer(stored, form, x, "relu")
    y = core.sparse_ffn(stored, "relu", x, np.arange(9, dtype=np.int32), 2, form)
    ffn = layer.meant()
    assert_near(y, ffn.hidden() @ ffn.down(), ffn.scale())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_do_not_vanish(core: NativeCore, bad: float) -> None:
    weights = f32(np.random.default_rng(0).standard_normal((5, 3, 64)))
    x = np.ones((1, 64), np.float32)
    x[0, 40] = bad
    for form in FORMS:
        stored = bundles.quantise(weights, form)
        y = core.sparse_ffn(stored, "silu", x, np.arange(5, dtype=np.int32), 1, form)
        assert np.isnan(y).all()


def test_a_width_that_has_no_whole_groups_is_refused(core: NativeCore) -> None:
    stored, x = np.zeros((2, 256), np.uint8), np.ones((1, 40), np.float32)
    neurons = np.arange(2, dtype=np.int32)
    for form in FORMS:
        with pytest.raises(NativeError, match="invalid argument"):
            core.sparse_ffn(stored, "silu", x, neurons, 1, form)
        with pytest.raises(NativeError, match="invalid argument"):
            core.dense_ffn(stored, "silu", x, np.ones(1, np.float32), 1, form)


@given(st.sampled_from(FORMS), st.integers(1, 60), st.booleans())
def test_both_sides_agree_on_the_size(
    native_core: Path, form: BundleFormat, groups: int, gated: bool
) -> None:
    size = NativeCore(native_core).bundle_bytes(form, 32 * groups, gated)
    assert size == bundles.bundle_bytes(32 * groups, form, gated=gated)


@given(st.sampled_from(FORMS), seeds, st.floats(1e-3, 1e3))
def test_quantising_loses_little(form: BundleFormat, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    weights = f32(scale * rng.standard_normal((3, 3, 96)))
    again = bundles.dequantise(bundles.quantise(weights, form), 96, form)
    largest = np.abs(weights.reshape(3, 3, 3, 32)).max(-1).repeat(32, -1).reshape(weights.shape)
    # int8: half a step, and what the scale loses below the normal float16; of int4 the end that is
    # not the largest weight may be cut off, from 8.5 to 7.
    lost = largest / 127 * 0.57 + 127 * 2.0**-25 if form == "int8" else largest * 1.55 / 8.5
    assert (np.abs(again - weights) <= lost).all()


@given(st.sampled_from(FORMS), seeds, st.integers(1, 6))
def test_an_outlier_spoils_no_other_weight(form: BundleFormat, seed: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    weights = f32(rng.standard_normal((5, 3, 32 * groups)))
    columns = rng.integers(0, 32 * groups, 5)
    some = np.arange(5), 2, columns
    weights[some] = 1000 * rng.choice([-1, 1], 5)
    again = bundles.dequantise(bundles.quantise(weights, form), 32 * groups, form)
    np.testing.assert_array_equal(again[some], weights[some])
    weights[some] = again[some] = 0
    error = np.abs(again - weights)[:, 2]
    assert error.max() <= np.abs(weights[:, 2]).max() * (0.57 / 127 if form == "int8" else 0.19)


@given(st.sampled_from(FORMS), seeds, st.integers(1, 6))
def test_down_rows_alone_are_rounded_as_in_bundles(
    form: BundleFormat, seed: int, groups: int
) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((6, 3, 32 * groups))
    add_outliers(weights[:, 2], rng)
    again = bundles.dequantise(bundles.quantise(f32(weights), form), 32 * groups, form)
    alone = bundles.pack_down(f32(weights[:, 2]), form)
    np.testing.assert_array_equal(bundles.unpack_down(alone, 32 * groups, form), again[:, 2])


@pytest.mark.parametrize("form", FORMS)
def test_the_outlier_is_where_its_group_gains_most(form: BundleFormat) -> None:
    """9 twice in a group would leave one; 8 alone in a group is the better choice."""
    weights = np.ones((1, 3, 96), np.float32)
    weights[0, 2, [3, 7]], weights[0, 2, 70], weights[0, 2, 40] = 9, -8, 7
    entry = 3 * bundles.row_bytes(96, form)
    stored = bundles.quantise(weights, form)[0, entry : entry + 4]
    assert stored[:2].view("<u2") == 70 and stored[2:].view("<f2") == -8


@given(st.sampled_from(FORMS), seeds)
def test_integers_come_back(form: BundleFormat, seed: int) -> None:
    """Weights that are already integers times a scale of a power of two are kept exactly."""
    rng = np.random.default_rng(seed)
    low, high = (-127, 127) if form == "int8" else (-7, 7)
    weights = rng.integers(low, high, (2, 3, 64), endpoint=True).astype(np.float32)
    weights[..., ::32] = weights[..., 1::32] = high  # two, as one of down is stored apart
    np.testing.assert_array_equal(
        bundles.dequantise(bundles.quantise(weights / 64, form), 64, form), weights / 64
    )


def test_bytes_of_a_bundle_are_the_documented_ones() -> None:
    weights = np.zeros((1, 3, 32), np.float32)
    weights[0, 0, :3], weights[0, 0, 16:18] = (7, 1, -2), (3, -7)
    weights[0, 2, 29] = -0.5
    stored = bundles.quantise(weights, "int4")
    assert stored.shape == (1, 64)
    assert stored[0, :4].tolist() == [0xBF, 0x19, 0x86, 0x88]
    assert stored[0, 48:54].tolist() == [0x00, 0x3C, 0, 0, 0, 0]  # 1.0, 0.0, 0.0 as float16
    assert stored[0, 54:58].tolist() == [29, 0, 0x00, 0xB8]  # -0.5 as float16
    assert not stored[0, 58:].any()


def test_bytes_of_a_plain_bundle_are_the_documented_ones() -> None:
    weights = np.zeros((1, 2, 32), np.float32)
    weights[0, 0, :3] = (7, 1, -2)
    weights[0, 1, 29] = -0.5
    stored = bundles.quantise(weights, "int4")
    assert stored.shape == (1, 64)
    assert stored[0, :4].tolist() == [0x8F, 0x89, 0x86, 0x88]
    assert stored[0, 32:36].tolist() == [0x00, 0x3C, 0, 0]  # 1.0, 0.0 as float16
    assert stored[0, 36:40].tolist() == [29, 0, 0x00, 0xB8]  # -0.5 as float16
    assert not stored[0, 40:].any()


def test_what_cannot_be_quantised_is_refused() -> None:
    for weights in (np.ones((2, 3, 33)), np.ones((2, 4, 32)), np.full((1, 3, 32), np.nan),
                    np.full((1, 3, 32), 1e9)):  # fmt: skip
        for form in FORMS:
            with pytest.raises(LoweringError, match=form):
                bundles.quantise(f32(weights), form)
    for form in FORMS:
        weights = np.ones((1, 3, 32), np.float32)
        weights[0, 2, 5] = 7e4  # more than float16 has
        with pytest.raises(LoweringError, match="65504 in down rows, got 70000"):
            bundles.quantise(weights, form)
        with pytest.raises(LoweringError, match="multiple of 32, got 33"):
            bundles.pack_down(np.ones((2, 33), np.float32), form)
        with pytest.raises(LoweringError, match="at most 65536"):
            bundles.bundle_bytes(65536 + 32, form)
    with pytest.raises(LoweringError, match="expected uint8 bundles"):
        bundles.dequantise(np.zeros((1, 63), np.uint8), 32, "int4")
