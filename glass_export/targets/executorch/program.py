"""From modules to one multi-method program."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from executorch.backends.xnnpack.partition.config.gemm_configs import LinearConfig
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.xnnpack_preprocess import XnnpackBackend
from executorch.exir import (
    EdgeCompileConfig,
    ExecutorchBackendConfig,
    to_edge,
)
from executorch.exir.backend.backend_details import CompileSpec
from executorch.exir.backend.partitioner import DelegationSpec
from executorch.exir.passes import MemoryPlanningPass
from torch import Tensor
from torch.export import ExportedProgram

from glass_export.errors import LoweringError
from glass_export.log import third_party_silence
from glass_export.targets.executorch.constants import ConstantStore
from glass_export.targets.executorch.module import LoweredModule

_CACHE_LINE = 64
"""Bytes. Weights that start at one are read fastest."""


def trace(
    module: LoweredModule, inputs: tuple[Tensor, ...], dynamic: tuple[Any, ...]
) -> ExportedProgram:
    """torch.export of one method.

    Raises:
        LoweringError: the module cannot be traced.
    """
    with torch.no_grad(), third_party_silence():
        try:
            return torch.export.export(
                module.eval(),
                inputs,
                dynamic_shapes=(dynamic,),
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
        except Exception as problem:
            name = module.source.name
            raise LoweringError(f"{name}: torch.export could not trace it: {problem}") from problem


def write_program(
    methods: Mapping[str, ExportedProgram],
    constants: Mapping[str, Any],
    store: ConstantStore,
    path: Path,
) -> None:
    """Lower the methods and write the program; ``constants`` become methods without inputs.

    ``store`` holds the methods' weights.

    Key/value caches are mutable buffers in an arena that the methods share, and that stays the
    same between calls.
    """
    with torch.no_grad(), third_party_silence():
        edge = to_edge(
            dict(methods),
            constant_methods=dict(constants),
            compile_config=EdgeCompileConfig(
                _check_ir_validity=False,
                _skip_dim_order=True,
                preserve_ops=[torch.ops.aten.linear.default],
            ),
        )
        # In one step, to_edge_transform_and_lower, the same takes more than twice the time: it
        # decomposes every graph again before and after each partitioner.
        delegated = edge.to_backend({name: _linears() for name in methods})
        with store.emission():
            program = delegated.to_executorch(
                ExecutorchBackendConfig(
                    memory_planning_pass=MemoryPlanningPass(
                        alloc_graph_input=False, alloc_graph_output=True, share_mutable_buffers=True
                    ),
                    run_reinplace_pass=True,
                    emit_mutable_buffer_names=True,
                    extract_delegate_segments=True,
                    do_quant_fusion_and_const_prop=True,
                    constant_tensor_alignment=_CACHE_LINE,
                )
            )
        with path.open("wb") as file:
            program.write_to_file(file)


def _linears() -> XnnpackPartitioner:
    """Only linears go to XNNPACK, and each by itself.

    The compile option skips all of XNNPACK's graph passes but the one for linears: the others find
    nothing to do there and take most of the lowering time.
    """
    partitioner = XnnpackPartitioner(configs=[LinearConfig])
    options = [CompileSpec("dqlinear_partitioner", b"")]
    partitioner.delegation_spec = DelegationSpec(XnnpackBackend.__name__, options)
    return partitioner
