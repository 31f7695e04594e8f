"""ONNX Runtime: ``prefill.onnx``, ``decode.onnx`` and ``pack.onnx`` over one ``weights.bin``.

The portable form, for any ONNX Runtime: ``pack`` gathers the rows of the chosen neurons once per
prompt, ``decode`` takes them as inputs. Full weights may be passed in their place: the dense model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from glass_export.errors import RecipeError
from glass_export.graph import CapturedGraph, shape_of
from glass_export.log import progress
from glass_export.manifest import TargetInfo
from glass_export.recipe import TargetRecipe
from glass_export.spec import FfnSite, TensorSpec
from glass_export.targets.base import LoweringInput
from glass_export.targets.onnx.builder import GraphBuilder
from glass_export.targets.onnx.translate import Translation, ffn_weights
from glass_export.targets.onnx.weights import WeightFile

WEIGHTS_FILE = "weights.bin"
_FIXED_INPUTS = {
    "input_ids": ("int64", (1, "T")),
    "position": ("int64", (1,)),
    "score_weights": ("float32", ("T",)),
    "logit_rows": ("int64", ("N",)),
}


TOOLS = ("onnx-ir", "onnxruntime")


def check(options: TargetRecipe) -> None:
    """See targets.base.Target."""
    if options.dtype != "fp32":
        raise RecipeError(
            f"target.dtype: got {options.dtype!r}, but the target onnx has only 'fp32' so far; "
            "use --target executorch for quantised weights"
        )


@contextmanager
def numerics(model: PreTrainedModel, sites: list[FfnSite], options: TargetRecipe) -> Iterator[bool]:
    """See targets.base.Target: float32 as it is."""
    yield True


def lower(source: LoweringInput, folder: Path) -> TargetInfo:
    """Write the three graphs and their weights into ``folder``; see targets.base.Target."""
    total = sum(int(np.prod(w.shape)) * 4 for w in source.prefill.weights.values())
    with (
        progress("writing ONNX weights", total, "bytes") as task,
        WeightFile(folder / WEIGHTS_FILE, task) as weights,
    ):
        builders = [
            _translate(source, source.prefill, weights),
            _translate(source, source.decode, weights),
            _pack(source, weights),
        ]
        for builder in builders:
            builder.save(folder / f"{builder.name}.onnx", {"glass.role": builder.name})
    return TargetInfo(
        name="onnx",
        dtype="fp32",
        prefill_chunk=source.prefill_chunk,
        graphs={b.name: f"{b.name}.onnx" for b in builders},
        signatures={b.name: b.signature() for b in builders},
        weights=WEIGHTS_FILE,
        tensors=tuple(weights.entries.values()),
    )


def _translate(source: LoweringInput, graph: CapturedGraph, weights: WeightFile) -> GraphBuilder:
    builder = GraphBuilder(graph.name, weights)
    translation = Translation(graph, builder, source.sites)
    _declare_inputs(translation, source)
    translation.run()
    _declare_outputs(translation, source)
    for statistic, array in source.prior.items():
        spec = TensorSpec(name=f"prior.{statistic}", dtype="float32", shape=array.shape)
        builder.output(builder.array(spec.name, array), spec)
    return builder


def _declare_inputs(translation: Translation, source: LoweringInput) -> None:
    builder = translation.builder
    for node in translation.source.graph.nodes:
        if node.name not in translation.source.inputs:
            continue
        if node.name == "ffn_idx":
            _declare_packed_rows(translation, source)
        elif node.name in _FIXED_INPUTS:
            dtype, shape = _FIXED_INPUTS[node.name]
            if translation.source.name == "decode":
                shape = tuple(1 if d == "T" else d for d in shape)
            spec = TensorSpec(name=node.name, dtype=dtype, shape=shape)
            translation.values[node] = builder.input(spec)
        else:
            spec = _cache_spec("past", node.name, shape_of(node))
            translation.values[node] = builder.input(spec)


def _cache_spec(prefix: str, name: str, shape: tuple[object, ...]) -> TensorSpec:
    """key_caches_3 -> past_key.3; the cache length is the caller's, up to the context length."""
    kind, _, layer = name.replace("_caches_", "_cache.").partition("_cache.")
    groups, width = int(str(shape[1])), int(str(shape[3]))
    return TensorSpec(
        name=f"{prefix}_{kind}.{layer}", dtype="float32", shape=(1, groups, "C", width)
    )


def _declare_packed_rows(translation: Translation, source: LoweringInput) -> None:
    for site in source.sites:
        for name, shape in (
            (f"gate_up.{site.layer}", (2, "K", site.d_model)),
            (f"down.{site.layer}", ("K", site.d_model)),
        ):
            spec = TensorSpec(name=name, dtype="float32", shape=shape)
            translation.memo[name] = translation.builder.input(spec)


def _declare_outputs(translation: Translation, source: LoweringInput) -> None:
    (output,) = (n for n in translation.source.graph.nodes if n.op == "output")
    layers, d_ff = len(source.sites), source.sites[0].d_ff
    for name, node in zip(translation.source.outputs, output.args[0], strict=True):
        if name == "logits":
            rows: int | str = 1 if translation.source.name == "decode" else "N"
            vocabulary = int(shape_of(node)[-1])
            spec = TensorSpec(name=name, dtype="float32", shape=(1, rows, vocabulary))
        elif "_cache." in name:
            spec = _cache_spec("present", name, shape_of(node))
        else:
            spec = TensorSpec(name=name, dtype="float32", shape=(layers, d_ff))
        translation.builder.output(translation.value(node), spec)


def _pack(source: LoweringInput, weights: WeightFile) -> GraphBuilder:
    """ffn_idx [L,K] -> the rows of the chosen neurons of every layer."""
    builder = GraphBuilder("pack", weights)
    indices = builder.input(
        TensorSpec(name="ffn_idx", dtype="int32", shape=(len(source.sites), "K"))
    )
    for site in source.sites:
        layer = builder.constant(f"layer_{site.layer}", np.array(site.layer, np.int64))
        kept = builder.op("Gather", indices, layer, axis=0)
        gate_up, down = ffn_weights(source.prefill, site)
        for name, weight, axis, shape in (
            (f"gate_up.{site.layer}", gate_up, 1, (2, "K", site.d_model)),
            (f"down.{site.layer}", down, 0, ("K", site.d_model)),
        ):
            rows = builder.op("Gather", builder.weight(weight), kept, axis=axis)
            builder.output(rows, TensorSpec(name=name, dtype="float32", shape=shape))
    return builder
