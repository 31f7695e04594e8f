"""ONNX Runtime: ``prefill.onnx`` and ``decode.onnx`` over one ``weights.bin``.

Linears and embeddings (see ``matrices``) are float32, or integers in operators of ONNX Runtime or,
with ``custom_ops``, of the project. FFNs have three forms (see ``ffn``): float32 rows, which a
third graph, ``pack.onnx``, gathers once per prompt; integers in stock operators; and bundles, which
need the project's operators.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from transformers import PreTrainedModel

from glass_export.graph import CapturedGraph, shape_of
from glass_export.log import progress
from glass_export.manifest import TargetInfo
from glass_export.ops.kernels import ABI_VERSION
from glass_export.recipe import TargetRecipe
from glass_export.spec import FfnSite, TensorSpec
from glass_export.targets import integer
from glass_export.targets.base import LoweringInput, ModelShapes, require_expert_operators
from glass_export.targets.onnx.builder import GraphBuilder
from glass_export.targets.onnx.ffn import (
    FfnForm,
    ffn_form,
    ffn_rows,
    neuron_axis,
    row_specs,
)
from glass_export.targets.onnx.matrices import translators
from glass_export.targets.onnx.nbits import CHANNEL_BLOCK, nbits_row_bytes
from glass_export.targets.onnx.numerics import rounded_model
from glass_export.targets.onnx.translate import TRANSLATORS, Translation
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
    """See targets.base.Target: every form exists."""


def weight_bytes(shapes: ModelShapes, options: TargetRecipe) -> dict[str, int]:
    """See targets.base.Target."""
    require_expert_operators(shapes, options)
    if options.dtype == "fp32":
        others = sum(n * d for n, d in shapes.matrices)
        return {"FFNs": 4 * shapes.ffn_weights, "linears and embeddings": 4 * others}
    if options.custom_ops:
        return integer.native_bytes(shapes, options.dtype)
    width, blocks = shapes.d_model, -(-shapes.d_ff // CHANNEL_BLOCK)
    down = width * blocks * (CHANNEL_BLOCK + 4)
    gate_up = (2 if shapes.gated else 1) * shapes.d_ff * nbits_row_bytes(width, options.dtype)
    return {
        "FFNs": shapes.layers * (gate_up + down),
        "linears and embeddings": sum(
            n * nbits_row_bytes(d, options.dtype) for n, d in shapes.matrices
        ),
    }


@contextmanager
def numerics(model: PreTrainedModel, sites: list[FfnSite], options: TargetRecipe) -> Iterator[bool]:
    """See targets.base.Target."""
    with rounded_model(model, sites, options):
        yield options.dtype == "fp32"


def lower(source: LoweringInput, folder: Path) -> TargetInfo:
    """Write the graphs and their weights into ``folder``; see targets.base.Target."""
    options, form = source.options, ffn_form(source.options)
    total = sum(math.prod(w.shape) for w in source.prefill.weights.values())
    with (
        progress("writing ONNX weights", total, "weights") as task,
        WeightFile(folder / WEIGHTS_FILE, task) as weights,
    ):
        builders = [
            _translate(source, source.prefill, form, weights),
            _translate(source, source.decode, form, weights),
        ]
        builders += [_pack(source, weights)] if form.packed else []
        for builder in builders:
            builder.save(folder / f"{builder.name}.onnx", _metadata(builder.name, options))
    return TargetInfo(
        name="onnx",
        dtype=options.dtype,
        ffn_dtype=options.dtype,
        custom_ops=options.custom_ops,
        prefill_chunk=source.prefill_chunk,
        graphs={b.name: f"{b.name}.onnx" for b in builders},
        signatures={b.name: b.signature() for b in builders},
        weights=WEIGHTS_FILE,
        tensors=tuple(weights.entries.values()),
    )


def _metadata(role: str, options: TargetRecipe) -> dict[str, str]:
    """What a graph says of itself; the version of the operators if it needs the project's."""
    version = {"glass.abi_version": str(ABI_VERSION)} if options.custom_ops else {}
    return {"glass.role": role, **version}


def _translate(
    source: LoweringInput, graph: CapturedGraph, form: FfnForm, weights: WeightFile
) -> GraphBuilder:
    builder = GraphBuilder(graph.name, weights)
    known = {**TRANSLATORS, **translators(source.options), **form.translators}
    translation = Translation(graph, builder, source.sites, known)
    _declare_inputs(translation, form)
    translation.run()
    _declare_outputs(translation, source)
    for statistic, array in source.prior.items():
        spec = TensorSpec(name=f"prior.{statistic}", dtype="float32", shape=array.shape)
        builder.output(_stored(builder, spec.name, array), spec)
    return builder


def _stored(builder: GraphBuilder, name: str, array: NDArray[np.float32]) -> ir.Value:
    return builder.stored(name, 0, lambda: {name: array})


def _declare_inputs(translation: Translation, form: FfnForm) -> None:
    builder = translation.builder
    for node in translation.source.graph.nodes:
        if node.name not in translation.source.inputs:
            continue
        if node.name == "ffn_idx":
            form.declare_choice(translation, node)
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


def _declare_outputs(translation: Translation, source: LoweringInput) -> None:
    (output,) = (n for n in translation.source.graph.nodes if n.op == "output")
    rows, d_ff = source.rows, source.sites[0].d_ff
    for name, node in zip(translation.source.outputs, output.args[0], strict=True):
        if name == "logits":
            wanted: int | str = 1 if translation.source.name == "decode" else "N"
            vocabulary = int(shape_of(node)[-1])
            spec = TensorSpec(name=name, dtype="float32", shape=(1, wanted, vocabulary))
        elif "_cache." in name:
            spec = _cache_spec("present", name, shape_of(node))
        else:
            spec = TensorSpec(name=name, dtype="float32", shape=(rows, d_ff))
        translation.builder.output(translation.value(node), spec)


def _pack(source: LoweringInput, weights: WeightFile) -> GraphBuilder:
    """ffn_idx [L,K] -> the rows of the chosen neurons of every layer; padding, -1, has none."""
    builder = GraphBuilder("pack", weights)
    indices = builder.input(TensorSpec(name="ffn_idx", dtype="int32", shape=(source.rows, "K")))
    are_neurons = builder.op(
        "GreaterOrEqual", indices, builder.constant("first", np.zeros(1, np.int32))
    )
    for site in source.sites:
        layer = builder.constant(f"layer_{site.layer}", np.array(site.row, np.int64))
        row, is_neuron = (builder.op("Gather", x, layer, axis=0) for x in (indices, are_neurons))
        kept = builder.op("Compress", row, is_neuron, axis=0)
        specs = row_specs(source.prefill, site)
        for part, weight in ffn_rows(source.prefill, site).items():
            chosen = builder.op("Gather", builder.weight(weight), kept, axis=neuron_axis(part))
            builder.output(chosen, specs[part])
    return builder
