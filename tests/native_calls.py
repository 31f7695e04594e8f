"""libglass_core.so through ctypes: one method per C function, on NumPy arrays.

Legend: L layers, F FFN width, D model width, K kept neurons, S tokens, H heads, G key/value heads,
E head width, C cache length, R rotated width. Arguments are taken as they are, so tests can pass
wrong ones; a method raises NativeError when the status is not 0.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]

ISAS = (
    "portable", "avx2", "avx512", "neon", "avx2_vnni", "avx512_vnni", "neon_dot", "neon_i8mm",
)  # fmt: skip
FORMATS = ("float32", "int8", "int4")
ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "relu")
FUSIONS = ("borda", "shrinkage", "local", "global")
FORMS = ("A", "griffin", "squared")
STATUSES = (
    "ok", "invalid argument", "scratch too small", "index out of range", "index not ascending",
    "not finite", "no scored token", "context full", "padding misplaced",
)  # fmt: skip


class NativeError(Exception):
    """A call returned another status than 0; ``str()`` is its entry of STATUSES."""


class _Shape(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in ("tokens", "heads", "kv_heads", "head_dim", "cache_len", "rotary")
    ]


class _Params(ctypes.Structure):
    _fields_ = [
        ("position", ctypes.c_int64),
        ("scale", ctypes.c_float),
        ("window", ctypes.c_int64),
        ("softcap", ctypes.c_float),
    ]


class _Selection(ctypes.Structure):
    _fields_ = [
        ("fusion", ctypes.c_int32),
        ("local", ctypes.c_int32),
        ("lam", ctypes.c_double),
        ("tau", ctypes.c_double),
    ]


@dataclass(frozen=True, kw_only=True)
class Attention:
    """The parameters of rotary_attention that are not arrays."""

    position: int = 0
    scale: float = 1.0
    window: int = 0
    softcap: float = 0.0


@dataclass(frozen=True)
class Plain:
    """Says that an FFN has no gate. ``bias``: [F] or None."""

    bias: F32 | None = None


def _kind(plain: Plain | None) -> tuple[int, F32 | None]:
    """Whether an FFN is gated, and its bias."""
    return (1, None) if plain is None else (0, plain.bias)


def f32(values: ArrayLike) -> F32:
    """A contiguous float32 array."""
    return np.ascontiguousarray(values, np.float32)


def _argument(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        assert value.flags.c_contiguous
        return ctypes.c_void_p(value.ctypes.data)
    if isinstance(value, int):
        return ctypes.c_int64(value)
    if isinstance(value, ctypes.Structure):
        return ctypes.byref(value)
    return value


class NativeCore:
    """The functions of one library file."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.glass_core_isa_name.restype = ctypes.c_char_p
        self._library.glass_core_status_message.restype = ctypes.c_char_p
        self._library.glass_core_bundle_bytes.restype = ctypes.c_int64
        self._library.glass_core_row_bytes.restype = ctypes.c_int64

    def call(self, name: str, *arguments: Any) -> None:
        """Call glass_core_<name>; plain integers are int64, arrays pointers, None is null."""
        status = getattr(self._library, f"glass_core_{name}")(*map(_argument, arguments))
        if status != 0:
            raise NativeError(STATUSES[status])

    def available_isas(self) -> list[str]:
        """Instruction sets that this build and this processor can run."""
        available = self._library.glass_core_isa_available
        return [isa for number, isa in enumerate(ISAS) if available(number)]

    def active_isa(self) -> str:
        """The instruction set in use, by the library's own name for it."""
        number = self._library.glass_core_active_isa()
        name: bytes = self._library.glass_core_isa_name(number)
        return name.decode()

    def set_isa(self, isa: str) -> None:
        """Use ``isa`` from now on."""
        self.call("set_isa", ctypes.c_int32(ISAS.index(isa)))

    def message(self, status: int) -> str:
        """What the library says of a status."""
        text: bytes = self._library.glass_core_status_message(status)
        return text.decode()

    def bundle_bytes(self, form: str, d_model: int, gated: bool = True) -> int:
        """Bytes of one neuron's bundle."""
        number = ctypes.c_int32(FORMATS.index(form))
        arguments = map(ctypes.c_int64, (d_model, gated))
        size: int = self._library.glass_core_bundle_bytes(number, *arguments)
        return size

    def row_bytes(self, form: str, depth: int) -> int:
        """Bytes of one row of a linear layer."""
        number = ctypes.c_int32(FORMATS.index(form))
        size: int = self._library.glass_core_row_bytes(number, ctypes.c_int64(depth))
        return size

    def linear(self, rows: U8, form: str, x: F32, bias: F32 | None = None, threads: int = 1) -> F32:
        """Shape: rows [N,row_bytes], x [S,D], bias [N] -> [S,N]."""
        y = np.full((len(x), len(rows)), np.nan, np.float32)
        number = ctypes.c_int32(FORMATS.index(form))
        self.call("linear", rows, number, len(rows), x.shape[1], bias, x, len(x), y, threads)
        return y

    def embedding(self, rows: U8, form: str, depth: int, ids: NDArray[np.int64]) -> F32:
        """Shape: rows [V,row_bytes], ids [S] -> [S,D]."""
        y = np.full((len(ids), depth), np.nan, np.float32)
        number = ctypes.c_int32(FORMATS.index(form))
        self.call("embedding", rows, number, len(rows), depth, ids, ids.size, y)
        return y

    def sparse_ffn(
        self,
        bundles: F32 | U8,
        activation: str,
        x: F32,
        neurons: I32,
        threads: int = 1,
        form: str = "float32",
        plain: Plain | None = None,
    ) -> F32:
        """Shape: bundles [F,3,D] or [F,bytes] of integers, x [S,D], neurons [K] -> [S,D].

        Those of a plain FFN are [F,2,D].
        """
        y = np.full_like(x, np.nan)
        self.call(
            "sparse_ffn",
            *(bundles, ctypes.c_int32(FORMATS.index(form)), *_kind(plain)),
            *(len(bundles), x.shape[1]),
            ctypes.c_int32(ACTIVATIONS.index(activation)),
            *(x, len(x), neurons, neurons.size, y, threads),
        )
        return y

    def dense_ffn(
        self,
        bundles: F32 | U8,
        activation: str,
        x: F32,
        score_weights: F32,
        threads: int = 1,
        form: str = "float32",
        plain: Plain | None = None,
    ) -> tuple[F32, F32, F32]:
        """Shape: bundles as above, x [S,D], score_weights [S] -> y [S,D], two sums [F]."""
        y = np.full_like(x, np.nan)
        abs_sum, sq_sum = np.full((2, len(bundles)), np.nan, np.float32)
        self.call(
            "dense_ffn",
            *(bundles, ctypes.c_int32(FORMATS.index(form)), *_kind(plain)),
            *(len(bundles), x.shape[1]),
            ctypes.c_int32(ACTIVATIONS.index(activation)),
            *(x, len(x), score_weights, y, abs_sum, sq_sum, threads),
        )
        return y, abs_sum, sq_sum

    def rms_norm(self, x: F32, weight: F32, eps: float) -> F32:
        """Shape: x [S,D], weight [D] -> [S,D]."""
        y = np.full_like(x, np.nan)
        self.call("rms_norm", x, weight, len(x), weight.size, ctypes.c_float(eps), y)
        return y

    def add_rms_norm(self, x: F32, skip: F32, weight: F32, eps: float) -> tuple[F32, F32]:
        """Shape: x and skip [S,D], weight [D] -> y and sum [S,D]."""
        y, total = np.full_like(x, np.nan), np.full_like(x, np.nan)
        self.call(
            "add_rms_norm", x, skip, weight, len(x), weight.size, ctypes.c_float(eps), y, total
        )
        return y, total

    def rotary_attention(
        self,
        query: F32,
        key: F32,
        value: F32,
        tables: tuple[F32, F32],
        caches: tuple[F32, F32],
        attention: Attention,
        threads: int = 1,
    ) -> F32:
        """Shape: query [S,H,E], key and value [S,G,E], tables [C,R/2], caches [G,C,E] -> [S,H,E].

        The caches are changed in place.
        """
        y = np.full_like(query, np.nan)
        shape = _Shape(*query.shape[:2], *key.shape[1:], caches[0].shape[1], 2 * tables[0].shape[1])
        params = _Params(attention.position, attention.scale, attention.window, attention.softcap)
        self.call(
            "rotary_attention", shape, params, query, key, value, *tables, *caches, y, threads
        )
        return y

    def local_scores(self, abs_sum: F32, sq_sum: F32, tokens: float, form: str) -> F32:
        """Shape: sums of any shape -> the same."""
        scores = np.full_like(abs_sum, np.nan)
        number = ctypes.c_int32(FORMS.index(form))
        self.call(
            "local_scores",
            *(abs_sum, sq_sum, ctypes.c_double(tokens), number, abs_sum.size, scores),
        )
        return scores

    def ranks(self, scores: F32) -> I32:
        """Shape: [L,F] -> [L,F]."""
        ranks = np.full(scores.shape, -1, np.int32)
        for row, out in zip(scores, ranks, strict=True):
            self.call("ranks", row, row.size, out)
        return ranks

    def borda(self, local_ranks: I32, prior_ranks: I32, lam: float) -> NDArray[np.uint32]:
        """Shape: [L,F] -> [L,F]."""
        fused = np.zeros(local_ranks.shape, np.uint32)
        for local, prior, out in zip(local_ranks, prior_ranks, fused, strict=True):
            self.call("borda", local, prior, ctypes.c_double(lam), local.size, out)
        return fused

    def shrinkage(
        self, local_mean: F32, tokens: float, prior: F32, tau: float, weights: F64 | None = None
    ) -> F32:
        """Shape: all of any shape -> the same."""
        fused, size = np.full_like(prior, np.nan), prior.size
        numbers = ctypes.c_double(tokens), ctypes.c_double(tau)
        self.call("shrinkage", local_mean, numbers[0], prior, numbers[1], size, fused, weights)
        return fused

    def sensitivity_weights(self, effect: F32, activity: F32, sensitivity: float) -> F64:
        """Shape: both of any shape -> the same."""
        weights = np.full(effect.shape, np.nan)
        power = ctypes.c_double(sensitivity)
        self.call("sensitivity_weights", effect, activity, power, effect.size, weights)
        return weights

    def top_k(self, scores: F32 | NDArray[np.uint32], k: int) -> I32:
        """Shape: [L,F] -> [L,K]."""
        name = "top_k_fused" if scores.dtype == np.uint32 else "top_k"
        neurons = np.full((len(scores), k), -1, np.int32)
        for row, out in zip(scores, neurons, strict=True):
            self.call(name, row, row.size, out, k)
        return neurons

    def select_neurons(
        self,
        sums: tuple[F32, F32, float],
        prior: F32 | None,
        k: int | Sequence[int],
        *,
        fusion: str,
        local: str,
        lam: float = 0.5,
        tau: float = 128.0,
        weights: F64 | None = None,
        routed: bool = False,
    ) -> I32:
        """Shape: sums (abs [L,F], squares [L,F], T), prior and weights [L,F] -> [L,K]."""
        abs_sum, sq_sum, tokens = sums
        layers, width = abs_sum.shape
        budgets = None if isinstance(k, int) else np.array(k, np.int64)
        most = k if isinstance(k, int) else max(k)
        neurons = np.full((layers, most), -7, np.int32)
        selection = _Selection(FUSIONS.index(fusion), FORMS.index(local), lam, tau)
        self.call(
            "select_neurons",
            *(abs_sum, sq_sum, ctypes.c_double(tokens), prior, weights, selection),
            *(layers, width, budgets, neurons, most, int(routed)),
        )
        return neurons
