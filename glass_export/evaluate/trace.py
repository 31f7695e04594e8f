"""What a method cost in fidelity on one text. Neither torch nor transformers is needed.

Legend: N' measured decode steps, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Trace:
    """One method on one text.

    ``steps``: measured decode steps [N']; ``kl`` and ``nll``: in nats, 0 and the dense model's own
    where the step is dense [N']; ``overlap``: share of the first chosen neurons that the oracle
    chose too, by layer [L].
    """

    steps: NDArray[np.int64]
    kl: NDArray[np.float64]
    nll: NDArray[np.float64]
    overlap: NDArray[np.float64]
