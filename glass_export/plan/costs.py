"""Memory and time of the stages of an export, from a model's sizes and a few measured constants.

The constants were measured on one core of a virtual machine with AVX-512 (`tests/bench/
bench_costs.py`); another machine may be two or three times as fast or slow. They are for saying
"minutes" or "days", and whether memory will do, not for scheduling.

Legend: P weights of the model, L layers, D model width, F FFN width, V vocabulary, S tokens of a
sequence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from glass_export.calibrate.statistics import RUNS
from glass_export.nn.streamed import BLOCK
from glass_export.recipe import Recipe
from glass_export.targets.base import ModelShapes

BASE_BYTES = {"onnx": 480 << 20, "executorch": 640 << 20}
"""Python with torch, transformers and the target's tools, after tracing: peak resident memory."""
VERIFY_BYTES = {"onnx": 120 << 20, "executorch": 560 << 20}
"""Of the process that verifies a streamed export: Python with the runtime, before the artifact."""

READ_RATE = 0.75e9
"""Weights a second and core that are read from cached 16-bit files, widened and multiplied; of a
single matrix 1.0, whole models are not in the processor's caches."""
ROUNDED_READ_RATE = 0.44e9
"""The same of int4 or int8 weights in a scratch file."""
RESIDENT_RATE = 3.7e9
"""Weights a second and core that a product of one token with weights in memory goes through."""
PRODUCT_RATE = 28e9
"""Products a second and core of matrices with 64 tokens or more."""
QUANTISE_RATE = {"fp32": math.inf, "int8": 270e6, "int4": 65e6}
"""Weights a second that are quantised; it is done on one core."""
CAPTURE_SECONDS = 0.3
"""Tracing both graphs, for each layer."""
EMIT_SECONDS = {"onnx": 0.05, "executorch": 0.6}
"""Translating both graphs to the target, for each layer."""
HASH_RATE = 0.5e9
"""Bytes a second that are read from a disk and hashed: the checkpoint before, the artifact twice
after. What is in memory is hashed at 1.5."""

_BACKWARD = 3.4
"""Forward and backward pass, and the FFNs once more, in forward passes."""
_BACKWARD_READS = 2.6
"""How often a streamed weight is read for the same."""
_SAVED_ROWS = 12
"""Activations [S,D] that a layer keeps for the backward pass."""
_LAYER_COPIES = 2.3
"""A layer's FFN in float32 while it is put together and quantised, in times its size."""
_OTHER_PASSES = 5
"""Passes over a prompt of a reference besides its greedy tokens."""
_SEARCH_TEXTS, _SEARCH_TOKENS, _SEARCH_RULES = 12, 200, 16
_SEARCH_WRITTEN = 2 * 3072
"""A recipe search: texts, tokens of one, rules that are run over each; tokens written for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Peak memory in bytes while a stage runs, and its time in seconds."""

    memory: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Computes stages. ``artifact``: bytes of its weights; ``checkpoint``: of the model's files."""

    shapes: ModelShapes
    recipe: Recipe
    artifact: int
    checkpoint: int
    threads: int

    def stages(self, *, streamed: bool) -> Mapping[str, Stage]:
        """Every stage by name, with all weights in memory or read when they are used."""
        options = self.recipe.target
        base = BASE_BYTES[options.name]
        held = 0 if streamed else 4 * self.shapes.weights
        blocks = 4 * 3 * BLOCK if streamed else 0
        verifier = VERIFY_BYTES[options.name] if streamed else 0
        found = {
            "load": Stage(memory=base + held, seconds=self._load(streamed)),
            "settle": Stage(
                memory=base + held + blocks + self._text_bytes(), seconds=self._settle(streamed)
            ),
            "reference": Stage(
                memory=base + held + blocks + self._rounded_bytes(streamed),
                seconds=self._reference(streamed),
            ),
            "lower": Stage(memory=base + held + self._lower_bytes(), seconds=self._lower()),
            "verify": Stage(memory=base + verifier + self._loaded_bytes(), seconds=self._verify()),
        }
        if not self.recipe.verify.enabled:
            del found["reference"], found["verify"]
        return found

    @property
    def scratch(self) -> int:
        """Bytes of the scratch file of rounded weights, which a streamed reference needs."""
        rounded = self.recipe.verify.enabled and self.recipe.target.dtype != "fp32"
        return self.artifact if rounded else 0

    # Memory.

    def _text_bytes(self) -> int:
        """Keys and values of text being written, and what the backward pass keeps."""
        recipe, shapes = self.recipe.calibration, self.shapes
        rows = min(recipe.batch, math.ceil(recipe.tokens / recipe.sequence_length))
        cache = 4 * shapes.layers * rows * recipe.sequence_length * shapes.cache_width
        logits = 4 * 4 * max(rows * shapes.vocab_size, 1 << 22)
        saved = 4 * _SAVED_ROWS * shapes.layers * recipe.sequence_length * shapes.d_model
        sums = 4 * 8 * RUNS * shapes.rows * shapes.d_ff
        search = 8 * shapes.rows * _SEARCH_TOKENS * shapes.d_ff if self._searches else 0
        return max(cache + logits, saved + logits, search + logits) + sums

    def _rounded_bytes(self, streamed: bool) -> int:
        """The model rounded beside the exact one; streamed, one down projection while it is."""
        options, shapes = self.recipe.target, self.shapes
        if options.dtype == "fp32":
            return 0
        if streamed:
            return 4 * 4 * shapes.d_ff * shapes.d_model
        portable_ffns = options.name == "executorch" and not options.custom_ops
        return 4 * (shapes.weights - (shapes.ffn_weights if portable_ffns else 0))

    def _lower_bytes(self) -> int:
        """One layer's FFN in float32 and as it is stored; ExecuTorch copies what it does itself."""
        options, shapes = self.recipe.target, self.shapes
        layer = int(4 * _LAYER_COPIES * shapes.ffn_weights / shapes.layers)
        if options.name != "executorch":
            return layer
        if not options.custom_ops:
            return layer + 3 * self.artifact
        delegated = shapes.weights - shapes.ffn_weights if options.dtype == "fp32" else 0
        return layer + 3 * 4 * delegated

    def _loaded_bytes(self) -> int:
        """The artifact on its runtime, with the packed copies of integers.

        These are of the chosen neurons, or with stock operators of everything. The caches of
        ONNX Runtime take nothing until they are written to.
        """
        options = self.recipe.target
        chosen = self.shapes.ffn_weights / self.shapes.weights * self.recipe.verify.density
        packed = 0.0 if options.dtype == "fp32" else chosen if options.custom_ops else 1.0
        cache = 4 * 2 * self.shapes.layers * self.recipe.export.max_length * self.shapes.cache_width
        return int((1 + packed) * self.artifact) + (cache if options.name == "executorch" else 0)

    # Time.

    @property
    def _searches(self) -> bool:
        return self.recipe.selection.mode == "auto"

    def _pass(self, streamed: bool, tokens: float, *, rounded: bool = False) -> float:
        """One pass of so many tokens through all weights."""
        rate = (ROUNDED_READ_RATE if rounded else READ_RATE) if streamed else RESIDENT_RATE
        return self.shapes.weights * (1 / rate + tokens / PRODUCT_RATE) / self.threads

    def _load(self, streamed: bool) -> float:
        read = 0.0 if streamed else self.shapes.weights / READ_RATE
        return self.checkpoint / HASH_RATE + read

    def _settle(self, streamed: bool) -> float:
        recipe = self.recipe.calibration
        written = recipe.tokens * (1.5 if self._searches else 1)  # with the chat template's
        rows = min(recipe.batch, math.ceil(recipe.tokens / recipe.sequence_length))
        seconds = (written + _SEARCH_WRITTEN * self._searches) / rows * self._pass(streamed, rows)
        sequences = written / recipe.sequence_length
        reads = sequences * _BACKWARD_READS * self._pass(streamed, 0)
        seconds += reads + _BACKWARD * (self._pass(False, written) - self._pass(False, 0))
        if self._searches:
            tokens = _SEARCH_TOKENS * _SEARCH_RULES
            seconds += _SEARCH_TEXTS * (5 * self._pass(streamed, 0) + self._pass(False, tokens))
        return seconds

    def _reference(self, streamed: bool) -> float:
        return self._quantise() + self._passes * self._pass(streamed, 1, rounded=True)

    @property
    def _passes(self) -> int:
        """Passes of a reference, and of the verification against it."""
        return self.recipe.verify.prompts * (self.recipe.verify.tokens + _OTHER_PASSES)

    def _quantise(self) -> float:
        return self.shapes.weights / QUANTISE_RATE[self.recipe.target.dtype]

    def _lower(self) -> float:
        graphs = (CAPTURE_SECONDS + EMIT_SECONDS[self.recipe.target.name]) * self.shapes.layers
        return graphs + self._quantise() + self.artifact / HASH_RATE

    def _verify(self) -> float:
        return 2 + self.artifact / HASH_RATE + self._passes * self.artifact / (4 * RESIDENT_RATE)
