"""ExecuTorch: one ``model.pte`` with the methods ``prefill`` and ``decode`` over shared caches.

FFN weights are stored once, neuron by neuron, and read in place by both methods. float32 linears
go to XNNPACK; int8 and int4 weights, those of linears and embeddings too, have the project's own
kernels. With ``custom_ops = false`` the program consists of stock operators alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram
from transformers import PreTrainedModel

from glass_export.log import progress
from glass_export.manifest import TargetInfo
from glass_export.ops.kernels import ABI_VERSION
from glass_export.recipe import TargetRecipe
from glass_export.runtime.program_metadata import encode
from glass_export.spec import LOGIT_ROWS, FfnSite, GraphSignature, TensorSpec
from glass_export.targets import integer
from glass_export.targets.base import LoweringInput, ModelShapes, require_expert_operators
from glass_export.targets.executorch import quantize
from glass_export.targets.executorch.constants import ConstantStore
from glass_export.targets.executorch.module import LoweredModule
from glass_export.targets.executorch.native import native
from glass_export.targets.executorch.portable import PORTABLE
from glass_export.targets.executorch.program import trace, write_program

PROGRAM_FILE = "model.pte"
TOOLS = ("executorch", "torchao")


def check(options: TargetRecipe) -> None:
    """See targets.base.Target: every form exists."""


def weight_bytes(shapes: ModelShapes, options: TargetRecipe) -> dict[str, int]:
    """See targets.base.Target."""
    require_expert_operators(shapes, options)
    if options.dtype != "fp32" and options.custom_ops:
        return integer.native_bytes(shapes, options.dtype)
    head = shapes.vocab_size * shapes.d_model
    # A head that is the embedding is stored for each of its two operators when it is quantised.
    twice = head if shapes.tied and options.dtype != "fp32" else 0
    linears = sum(n * d for n, d in shapes.matrices) + twice
    per_weight = {"fp32": 4.0, "int8": 1.0, "int4": 0.5625}[options.dtype]
    return {"FFNs": 4 * shapes.ffn_weights, "linears and embeddings": int(per_weight * linears)}


@contextmanager
def numerics(model: PreTrainedModel, sites: list[FfnSite], options: TargetRecipe) -> Iterator[bool]:
    """See targets.base.Target."""
    with ExitStack() as rounded:
        if options.dtype != "fp32" and options.custom_ops:
            rounded.enter_context(integer.rounded_ffns(model, sites, options.dtype))
            rounded.enter_context(integer.rounded_linears(model, sites, options.dtype))
        elif options.dtype != "fp32":
            rounded.enter_context(quantize.quantized(model, sites, options.dtype))
        yield options.dtype == "fp32"


def lower(source: LoweringInput, folder: Path) -> TargetInfo:
    """Write ``model.pte`` into ``folder``; see targets.base.Target."""
    options, store = source.options, ConstantStore()
    dialect = native(options.dtype) if options.custom_ops else PORTABLE
    modules = {
        graph.name: LoweredModule(graph, source.sites, store, dialect)
        for graph in (source.prefill, source.decode)
    }
    signatures = _signatures(source)
    with progress("lowering to ExecuTorch", 3, "steps") as task:
        methods: dict[str, ExportedProgram] = {}
        for name, module in modules.items():
            if not options.custom_ops:
                quantize.quantize(module, options.dtype)
            methods[name] = trace(module, *_example(source, signatures[name]))
            task.advance()
        write_program(methods, _constants(source), store, folder / PROGRAM_FILE)
        task.advance()
    return TargetInfo(
        name="executorch",
        dtype=options.dtype,
        ffn_dtype=options.dtype if options.custom_ops else "fp32",
        custom_ops=options.custom_ops,
        prefill_chunk=source.prefill_chunk,
        graphs=dict.fromkeys(signatures, PROGRAM_FILE),
        signatures=signatures,
        weights=None,
        tensors=(),
    )


def _signatures(source: LoweringInput) -> dict[str, GraphSignature]:
    """Inputs and outputs of both methods. T <= prefill_chunk; N <= LOGIT_ROWS; K <= F."""
    layers, d_ff = source.rows, source.sites[0].d_ff
    vocabulary = source.metadata["vocab_size"]
    assert isinstance(vocabulary, int)

    def spec(name: str, dtype: str, *shape: int | str) -> TensorSpec:
        return TensorSpec(name=name, dtype=dtype, shape=shape)

    prefill = GraphSignature(
        inputs=(
            spec("input_ids", "int64", 1, "T"),
            spec("position", "int64", 1),
            spec("score_weights", "float32", "T"),
            spec("logit_rows", "int64", "N"),
        ),
        outputs=(
            spec("logits", "float32", 1, "N", vocabulary),
            spec("abs_sum", "float32", layers, d_ff),
            spec("sq_sum", "float32", layers, d_ff),
        ),
    )
    decode = GraphSignature(
        inputs=(
            spec("input_ids", "int64", 1, 1),
            spec("position", "int64", 1),
            spec("ffn_idx", "int32", layers, "K"),
        ),
        outputs=(spec("logits", "float32", 1, 1, vocabulary),),
    )
    return {"prefill": prefill, "decode": decode}


def _example(
    source: LoweringInput, signature: GraphSignature
) -> tuple[tuple[torch.Tensor, ...], tuple[Any, ...]]:
    """Inputs to trace with, and which of their dimensions are dynamic.

    The lower bound 2 is the tracer's: it takes 0 and 1 for special. The program runs with 1 too.
    """
    most = {"T": source.prefill_chunk, "N": LOGIT_ROWS, "K": source.sites[0].d_ff}
    dims = {name: Dim(name, min=2, max=max(limit, 3)) for name, limit in most.items()}
    sizes = {"T": 3, "N": 2, "K": 2}
    inputs, dynamic = [], []
    for spec in signature.inputs:
        shape = [sizes.get(str(d)) or int(d) for d in spec.shape]
        inputs.append(torch.ones(shape, dtype=getattr(torch, spec.dtype)).cumsum(-1) - 1)
        inputs[-1] = inputs[-1].to(getattr(torch, spec.dtype))
        moving = {axis: dims[d] for axis, d in enumerate(spec.shape) if isinstance(d, str)}
        dynamic.append(moving or None)
    return tuple(inputs), tuple(dynamic)


def _constants(source: LoweringInput) -> Mapping[str, Any]:
    """Methods without inputs: the metadata and every prior [L,F]."""
    options = dataclasses.asdict(source.options)
    fields = {"abi_version": ABI_VERSION, **source.metadata, "dtype": options["dtype"]}
    text = encode({**fields, "custom_ops": options["custom_ops"]})
    priors = {f"get_prior_{name}": torch.from_numpy(p) for name, p in source.prior.items()}
    return {"get_metadata": text, **priors}
