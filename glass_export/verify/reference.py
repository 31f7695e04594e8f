"""What the eager model computes, as plain arrays that travel with the artifact.

Legend: T prompt tokens, N greedy tokens, L layers, F FFN width, K kept neurons, V vocabulary.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from glass_export.errors import ArtifactError
from glass_export.prior import write_tensors

REFERENCE_NAME = "reference.safetensors"
_TOLERANCE = "tolerance"
FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptReference:
    """The eager model's results for one prompt.

    Shape: input_ids [T]; prefill_logits [V] after the prompt; abs_sum and sq_sum [L,F], the score
    sums over the prompt; greedy [N], the dense model's greedy tokens, and greedy_margin [N], how
    far their logits lead; indices int32 [L,K], the neurons chosen from those scores; sparse_tokens
    and sparse_margin [N-1], the sparse model's next token after each greedy one; sparse_logits
    [V], its last logits; resumed_logits [V], dense logits after prompt, greedy tokens and the
    prompt again.
    """

    input_ids: IntArray
    prefill_logits: FloatArray
    abs_sum: FloatArray
    sq_sum: FloatArray
    greedy: IntArray
    greedy_margin: FloatArray
    indices: NDArray[np.int32]
    sparse_tokens: IntArray
    sparse_margin: FloatArray
    sparse_logits: FloatArray
    resumed_logits: FloatArray


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Largest errors allowed: of logits in units of their standard deviation, of scores in units
    of the largest score.
    """

    logits: float
    scores: float


@dataclass(frozen=True, slots=True)
class Reference:
    """References of all prompts, and the errors that count as equal; see verify.compare."""

    prompts: tuple[PromptReference, ...]
    tolerance: Tolerance

    def save(self, path: Path) -> None:
        """Write to a safetensors file, all of it or nothing; equal ones give equal bytes.

        Raises:
            OSError: the file cannot be written.
        """
        arrays = {
            f"{number}.{name}": np.ascontiguousarray(array)
            for number, prompt in enumerate(self.prompts)
            for name, array in asdict(prompt).items()
        }
        arrays[_TOLERANCE] = np.array([self.tolerance.logits, self.tolerance.scores])
        write_tensors(path, arrays, {})

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read a file written by save. Raises ArtifactError when it is damaged or missing."""
        prompts: dict[str, dict[str, NDArray[Any]]] = {}
        try:
            arrays = safetensors.numpy.load_file(path)
            tolerance = Tolerance(*(float(x) for x in arrays.pop(_TOLERANCE)))
            for key, array in arrays.items():
                number, _, name = key.partition(".")
                prompts.setdefault(number, {})[name] = array
            ordered = (PromptReference(**prompts[n]) for n in sorted(prompts, key=int))
            return cls(tuple(ordered), tolerance)
        except Exception as problem:
            raise ArtifactError(
                f"{path}: not a readable verification reference ({problem}); export again"
            ) from problem


def logit_error(got: FloatArray, wanted: FloatArray) -> float:
    """Largest difference in units of the logits' standard deviation."""
    return float(np.abs(got - wanted).max() / wanted.std())


def score_error(got: FloatArray, wanted: FloatArray) -> float:
    """Largest difference in units of a layer's largest score; an unused expert's are all 0."""
    largest = np.maximum(wanted.max(-1), np.finfo(np.float32).tiny)
    return float((np.abs(got - wanted).max(-1) / largest).max())
