"""What an execution engine offers to the driver. Imports neither torch, transformers nor onnx.

Legend: T tokens of one prefill call, N requested logit rows, L layers, F FFN width, K kept neurons,
V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from glass_export.spec import ModelDims

FloatArray = NDArray[np.float32]
IndexArray = NDArray[np.int32]
TokenArray = NDArray[np.int64]


@dataclass(slots=True)
class LocalStatistics:
    """Sums over scored tokens, from which every local score form is computed.

    With u_t = h_t / ||h_t||_2 the normalised FFN activation of token t and m_t its score weight:
    ``abs_sum`` = sum_t m_t |u_t|, ``sq_sum`` = sum_t m_t u_t^2, ``tokens`` = sum_t m_t.

    Shape: abs_sum and sq_sum [L,F].
    Source: GLASS (arXiv 2508.14302) eq. for A; GRIFFIN (Dong et al. 2024) is sqrt(sq_sum).
    """

    abs_sum: FloatArray
    sq_sum: FloatArray
    tokens: float

    @classmethod
    def zeros(cls, layers: int, d_ff: int) -> LocalStatistics:
        """Statistics of no token at all."""
        return cls(np.zeros((layers, d_ff), np.float32), np.zeros((layers, d_ff), np.float32), 0.0)

    def add(self, other: LocalStatistics) -> None:
        """Add the sums of further tokens in place: chunks add up to the whole prompt."""
        self.abs_sum += other.abs_sum
        self.sq_sum += other.sq_sum
        self.tokens += other.tokens


@dataclass(frozen=True, slots=True)
class PrefillResult:
    """Outcome of one prefill call. Shape: logits [N,V] for the N requested positions."""

    logits: FloatArray
    statistics: LocalStatistics


class Backend(Protocol):
    """An engine that runs an artifact's two graphs over one key/value cache.

    Positions count from 0. Position ``p`` may be written when all before it are; writing it again
    overwrites it (so a caller rewinds by passing a smaller position).
    """

    dims: ModelDims
    max_length: int
    prefill_chunk: int

    def prefill(
        self,
        tokens: TokenArray,
        position: int,
        score_weights: FloatArray,
        logit_rows: TokenArray,
    ) -> PrefillResult:
        """Run ``tokens`` [T] densely from ``position``; T may be 1 to prefill_chunk.

        Args:
            tokens: Token ids [T].
            position: Cache position of the first token.
            score_weights: m_t [T], 1 for tokens that count in the local scores, else 0.
            logit_rows: Indices into ``tokens`` whose logits are wanted [N]; any backend takes
                up to ``spec.LOGIT_ROWS``.
        """
        ...

    def select(self, indices: IndexArray | None) -> None:
        """Use these neurons from the next decode on; None: all of them, the dense model.

        Shape: [L,K], each row ascending without repetition. Layers may keep different numbers of
        neurons: K is the largest, and shorter rows end in padding, -1.
        """
        ...

    def decode(self, token: int, position: int) -> FloatArray:
        """Run one token with the selected neurons: logits [V], valid until the next call."""
        ...

    def close(self) -> None:
        """Free the engine's memory. The object is unusable afterwards."""
        ...
