"""Every pass: what it rewrites, what it leaves alone, and that the result stays the same."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import Dim

from glass_export import ops
from glass_export.errors import LoweringError
from glass_export.graph import CapturedGraph, Weight
from glass_export.passes import PassManager, default_passes
from glass_export.passes.base import Pass, PassResult
from glass_export.passes.cancel_transposes import CancelTransposes
from glass_export.passes.drop_identities import DropIdentities
from glass_export.passes.fuse_add_rms_norm import FuseAddRmsNorm
from glass_export.passes.fuse_rotary_attention import FuseRotaryAttention
from glass_export.passes.merge_linears import MergeLinears, joined_name
from glass_export.passes.simplify_reshapes import SimplifyReshapes
from glass_export.passes.sort_heads import SortHeads
from glass_export.passes.split_slices import SplitSlices
from glass_export.passes.widen_rope import WidenRope

aten, glass = torch.ops.aten, torch.ops.glass_ir
WIDTH, CONTEXT = 8, 16


class Fn(nn.Module):
    """A function of one input [1,T,24] with parameters of its own."""

    def __init__(self, body: Callable[[Fn, Tensor], Tensor]) -> None:
        super().__init__()
        self.body = body
        self.q, self.k = nn.Linear(24, 16, bias=False), nn.Linear(24, 8, bias=False)
        self.v, self.biased = nn.Linear(24, 8, bias=False), nn.Linear(24, 5)
        self.scale = nn.Parameter(torch.randn(24))
        self.head_scale = nn.Parameter(torch.randn(WIDTH))
        angles = torch.randn(CONTEXT, WIDTH // 2)
        self.cos, self.sin = nn.Parameter(angles.cos()), nn.Parameter(angles.sin())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def trace(body: Callable[[Fn, Tensor], Tensor]) -> CapturedGraph:
    module = Fn(body).requires_grad_(False)
    program = torch.export.export(
        module, (torch.randn(1, 5, 24),), dynamic_shapes=({1: Dim("T")},), strict=False
    )
    owners = program.graph_signature.inputs_to_parameters
    weights = {node: Weight.of(name, program.state_dict[name]) for node, name in owners.items()}
    graph = CapturedGraph("test", program.graph, ("x",), ("y",), weights)
    graph.prune()
    return graph


def evaluate(graph: CapturedGraph, x: Tensor) -> Tensor:
    values = {name: weight.load() for name, weight in graph.weights.items()}
    order = [n.name for n in graph.graph.nodes if n.op == "placeholder"]
    module = fx.GraphModule(nn.Module(), graph.graph)
    return module(*[x if name == "x" else values[name] for name in order])[0]


def targets(graph: CapturedGraph) -> Counter[object]:
    return Counter(node.target for node in graph.nodes())


def apply(step: Pass, body: Callable[[Fn, Tensor], Tensor]) -> tuple[CapturedGraph, bool]:
    """Run a pass and check that it does not change the result, also for another length."""
    graph, x = trace(body), torch.randn(1, 7, 24)
    before = evaluate(graph, x)
    result = step(graph)
    assert torch.allclose(evaluate(result.graph, x), before, atol=1e-5)
    result.graph.graph.lint()
    return result.graph, result.modified


def heads(x: Tensor) -> Tensor:
    return x.view(1, x.shape[1], -1, WIDTH)


def attend(m: Fn, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of heads [1,S,H,E] over fresh caches."""
    cache = torch.zeros(1, v.shape[-1] // WIDTH, CONTEXT, WIDTH)
    position = torch.zeros(1, dtype=torch.int64)
    return ops.attention(
        q.flatten(2), k.flatten(2), v, cache, cache.clone(), position, 2, 0.3, 0, 0.0
    )[0]


def test_drop_identities() -> None:
    graph, modified = apply(
        DropIdentities(), lambda m, x: (x.contiguous().clone().to(torch.float32) * 2).detach()
    )
    assert modified and set(targets(graph)) == {aten.mul.Tensor}


def test_drop_identities_keeps_a_real_cast() -> None:
    _, modified = apply(DropIdentities(), lambda m, x: x.to(torch.float64) + 1)
    assert not modified


def test_transposes_cancel_across_a_norm() -> None:
    def body(m: Fn, x: Tensor) -> Tensor:
        normed = ops.rms_norm(heads(x).transpose(1, 2), m.head_scale, 1e-5)
        return normed.transpose(1, 2).flatten(2)

    graph, modified = apply(CancelTransposes(), body)
    assert modified and aten.transpose.int not in targets(graph)


def test_a_transpose_of_the_normed_dimension_stays() -> None:
    def body(m: Fn, x: Tensor) -> Tensor:
        normed = ops.rms_norm(x.view(1, -1, 3, 8).transpose(2, 3), torch.ones(3), 1e-5)
        return normed.transpose(2, 3)

    graph, modified = apply(CancelTransposes(), body)
    assert not modified and targets(graph)[aten.transpose.int] == 2


def test_transposes_of_different_axes_stay() -> None:
    _, modified = apply(
        CancelTransposes(), lambda m, x: heads(x).transpose(1, 2).transpose(2, 3).contiguous()
    )
    assert not modified


def test_reshapes_collapse_to_nothing() -> None:
    graph, modified = apply(SimplifyReshapes(), lambda m, x: heads(x).flatten(2) * 2)
    assert modified and set(targets(graph)) == {aten.mul.Tensor}


def test_reshapes_become_static_with_one_dynamic_dimension() -> None:
    graph, modified = apply(SimplifyReshapes(), lambda m, x: heads(x))
    (node,) = graph.nodes(aten.reshape.default)
    assert modified and node.args[1] == [1, -1, 3, WIDTH]
    assert not SimplifyReshapes()(graph).modified


def test_two_dynamic_dimensions_are_an_error() -> None:
    with pytest.raises(LoweringError, match="two dynamic dimensions"):
        apply(SimplifyReshapes(), lambda m, x: x.view(x.shape[1], 1, -1).expand(-1, x.shape[1], -1).reshape(x.shape[1], x.shape[1], 3, 8))  # fmt: skip # noqa: E501


def test_a_single_head_needs_no_reshape_around_its_norm() -> None:
    def body(m: Fn, x: Tensor) -> Tensor:
        return ops.rms_norm(heads(m.k(x)), m.head_scale, 1e-5).flatten(2)

    graph, _ = apply(SimplifyReshapes(), body)
    assert aten.reshape.default not in targets(graph)


def test_linears_of_one_input_merge() -> None:
    graph, modified = apply(
        MergeLinears(), lambda m, x: torch.cat([m.q(x), m.k(x).relu(), m.v(x)], -1)
    )
    assert modified and targets(graph)[aten.linear.default] == 1
    (merged,) = graph.weights.values()
    assert merged.name == "q+k+v.weight" and merged.shape == (32, 24)


def test_a_linear_with_bias_does_not_merge_with_one_without() -> None:
    _, modified = apply(MergeLinears(), lambda m, x: torch.cat([m.q(x), m.biased(x)], -1))
    assert not modified


def test_linears_of_different_inputs_stay_apart() -> None:
    _, modified = apply(MergeLinears(), lambda m, x: m.q(x).sum() + m.k(x + 1))
    assert not modified


def test_a_computed_weight_is_an_error() -> None:
    with pytest.raises(LoweringError, match="the weight of linear is computed"):
        apply(MergeLinears(), lambda m, x: nn.functional.linear(x, m.q.weight * 2))


def test_joined_name() -> None:
    assert joined_name(["l.0.q.weight", "l.0.k.weight"]) == "l.0.q+k.weight"


def roped(m: Fn, x: Tensor, other: Tensor | None = None) -> Tensor:
    position = torch.zeros(1, dtype=torch.int64)
    q = ops.rope(heads(m.q(x)), m.cos, m.sin, position)
    k = ops.rope(heads(m.k(x)), m.cos if other is None else other, m.sin, position)
    cache = torch.zeros(1, 1, CONTEXT, WIDTH)
    return ops.attention(
        q.flatten(2), k.flatten(2), m.v(x), cache, cache.clone(), position, 2, 0.3, 0, 0.0
    )[0]


def test_rotary_attention_takes_query_key_and_value_apart() -> None:
    graph, modified = apply(PassManagerAsPass(SimplifyReshapes(), FuseRotaryAttention()), roped)
    (node,) = graph.nodes(glass.rotary_attention.default)
    assert modified and node.args[1] is not None and glass.rope.default not in targets(graph)


def test_rotary_attention_takes_a_whole_split_packed() -> None:
    graph, _ = apply(
        PassManagerAsPass(SimplifyReshapes(), MergeLinears(), FuseRotaryAttention()), roped
    )
    (node,) = graph.nodes(glass.rotary_attention.default)
    assert node.args[1:3] == (None, None) and operator.getitem in targets(graph)
    assert aten.split_with_sizes.default not in targets(graph)


def test_different_tables_for_query_and_key_do_not_fuse() -> None:
    _, modified = apply(
        PassManagerAsPass(SimplifyReshapes(), FuseRotaryAttention()),
        lambda m, x: roped(m, x, m.cos + 1),
    )
    assert not modified


def test_attention_without_rope_gets_an_empty_table_and_is_packed() -> None:
    def body(m: Fn, x: Tensor) -> Tensor:
        return attend(m, heads(m.q(x)), heads(m.k(x)), m.v(x))

    steps = (SimplifyReshapes(), MergeLinears(), FuseRotaryAttention())
    graph, modified = apply(PassManagerAsPass(*steps), body)
    (node,) = graph.nodes(glass.rotary_attention.default)
    assert modified and node.args[1:3] == (None, None)
    assert node.args[6] is node.args[7] and graph.weight(node.args[6]).shape == (CONTEXT, 0)


def partly_roped(m: Fn, x: Tensor, cut: int = 4, begin: int = 4) -> Tensor:
    """Heads [1,H,T,E] of which the first channels are rotated, as in StableLM."""
    whole = heads(m.q(x)).transpose(1, 2)
    cos, sin, position = m.cos[:, :2], m.sin[:, :2], torch.zeros(1, dtype=torch.int64)
    turned = ops.rope(whole[..., :cut].transpose(1, 2), cos, sin, position).transpose(1, 2)
    return torch.cat([turned, whole[..., begin:]], -1)


def test_rope_takes_whole_heads_where_the_rest_is_put_beside_it() -> None:
    graph, modified = apply(WidenRope(), partly_roped)
    assert modified and not set(targets(graph)) & {aten.cat.default}
    (rope,) = graph.nodes(glass.rope.default)
    assert rope.meta["val"].shape[-1] == WIDTH


def test_rope_is_not_widened_when_channels_are_missing_or_repeated() -> None:
    assert not apply(WidenRope(), lambda m, x: partly_roped(m, x, begin=5))[1]
    assert not apply(WidenRope(), lambda m, x: partly_roped(m, x, cut=5))[1]


def test_slices_of_a_fused_projection_are_one_split() -> None:
    def body(m: Fn, x: Tensor) -> Tensor:
        q = m.q(x)
        return q[..., :4] * q[..., 12:] + q[..., 4:12].relu().sum(-1, keepdim=True) * q[..., :4]

    graph, modified = apply(SplitSlices(), body)
    (split,) = graph.nodes(aten.split_with_sizes.default)
    assert modified and split.args[1] == [4, 8, 4] and aten.slice.Tensor not in targets(graph)


@pytest.mark.parametrize("joint", [3, 5])
def test_slices_that_leave_out_or_share_channels_stay(joint: int) -> None:
    body = lambda m, x: m.q(x)[..., :4].sum(-1) + m.q(x)[..., joint:].sum(-1)  # noqa: E731
    assert not apply(SplitSlices(), lambda m, x: body(m, x))[1]


def by_heads(m: Fn, x: Tensor) -> tuple[Tensor, Tensor]:
    """A projection, and of its two heads, each with 4 channels of query and of key, the sum."""
    rows = m.q(x)
    query, key = rows.view(1, -1, 2, 8).transpose(1, 2).chunk(2, dim=-1)
    return rows, (query * 2.0 + key).transpose(1, 2).flatten(2)


def test_rows_that_go_head_by_head_are_sorted_by_part() -> None:
    graph, modified = apply(SortHeads(), lambda m, x: by_heads(m, x)[1])
    (split,) = graph.nodes(aten.split_with_sizes.default)
    assert modified and split.args[1] == [8, 8] and aten.chunk.default not in targets(graph)
    assert {weight.name for weight in graph.weights.values()} == {"q.weight.sorted"}


def test_rows_that_something_else_reads_are_not_sorted() -> None:
    graph, modified = apply(SortHeads(), lambda m, x: torch.cat(by_heads(m, x), -1))
    assert not modified and aten.chunk.default in targets(graph)


def test_transposes_around_a_scaled_layer_norm_cancel() -> None:
    def body(m: Fn, x: Tensor) -> Tensor:
        turned = heads(m.q(x)).transpose(1, 2).transpose(1, 2)
        return ops.layer_norm(turned, m.head_scale, None, 1e-5).transpose(1, 2).transpose(1, 2)

    graph, modified = apply(CancelTransposes(), body)
    assert modified and aten.transpose.int not in targets(graph)


def test_add_and_norm_fuse_and_the_sum_stays() -> None:
    def body(m: Fn, x: Tensor) -> Tensor:
        total = x + x.relu()
        return ops.rms_norm(total, m.scale, 1e-5) * total

    graph, modified = apply(FuseAddRmsNorm(), body)
    assert modified and aten.add.Tensor not in targets(graph)
    assert targets(graph)[glass.add_rms_norm.default] == 1


@pytest.mark.parametrize(
    "body",
    [
        lambda m, x: ops.rms_norm(x + m.scale, m.scale, 1e-5),
        lambda m, x: ops.rms_norm(torch.add(x, x.relu(), alpha=2), m.scale, 1e-5),
        lambda m, x: ops.rms_norm(x * 2, m.scale, 1e-5),
    ],
    ids=["broadcast", "scaled", "no addition"],
)
def test_other_norms_stay(body: Callable[[Fn, Tensor], Tensor]) -> None:
    _, modified = apply(FuseAddRmsNorm(), body)
    assert not modified


class PassManagerAsPass(Pass):
    """Several passes as one; reports whether the last one changed the graph."""

    def __init__(self, *steps: Pass) -> None:
        self.steps = steps

    def call(self, graph: CapturedGraph) -> PassResult:
        for step in self.steps:
            result = step(graph)
        return result


def test_the_manager_names_the_failed_pass_and_those_before() -> None:
    class Broken(Pass):
        def call(self, graph: CapturedGraph) -> PassResult:
            raise ZeroDivisionError("oops")

    with pytest.raises(LoweringError, match=r"Broken failed.*oops.*before it: DropIdentities"):
        PassManager([DropIdentities(), Broken()])(trace(lambda m, x: x + 1))


def test_default_passes_are_idempotent() -> None:
    graph = default_passes()(trace(roped)).graph
    assert not default_passes()(graph).modified
