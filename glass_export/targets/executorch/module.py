"""A captured graph as a torch module, its semantic operators replaced by those of a dialect.

Running the module walks the graph; torch.export traces that walk into the operators which the
runtime has. Weights and key/value caches become buffers that both methods name alike, so that the
program stores them once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from glass_export.errors import LoweringError
from glass_export.graph import CapturedGraph, Weight, operand, shape_of
from glass_export.spec import FfnSite
from glass_export.targets.base import SiteWeights, ffn_site, ffn_weights
from glass_export.targets.executorch.constants import ConstantStore, untouched_zeros

Translator = Callable[["LoweredModule", fx.Node], Any]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What stands for each operator, and in which form weights are stored.

    ``ffn_weights`` turns the weights of a site into named stored weights; ``rows`` does so with the
    weight [N,D] of a linear or embedding, which is a torch module where there is no ``rows``.
    ``deferred``: only the dialect's own operators read the FFN weights, so that they may be written
    without having been in the graph; rows always are.
    """

    translators: Mapping[Any, Translator]
    ffn_weights: Callable[[SiteWeights], Mapping[str, Weight]]
    rows: Callable[[Weight], Weight] | None = None
    deferred: bool = False


LINEAR = torch.ops.aten.linear.default
EMBEDDING = torch.ops.aten.embedding.default
_CACHE = re.compile(r"(key|value)_caches_(\d+)")


class LoweredModule(nn.Module):
    """One method of the program.

    Inputs are the captured graph's without the caches, which are buffers ``key_cache_0``...;
    outputs are the captured graph's without the caches.
    """

    def __init__(
        self,
        source: CapturedGraph,
        sites: tuple[FfnSite, ...],
        store: ConstantStore,
        dialect: Dialect,
    ) -> None:
        super().__init__()
        self.source, self.sites, self.store, self.dialect = source, sites, store, dialect
        self.values: dict[fx.Node, Any] = {}
        self.memo: dict[Any, Any] = {}
        self.inputs = tuple(n for n in source.inputs if not _CACHE.fullmatch(n))
        self._by_name = {weight.name: weight for weight in source.weights.values()}
        self._require_known()
        for node in source.graph.nodes:
            if node.op == "placeholder" and (match := _CACHE.fullmatch(node.name)):
                shape = [int(d) for d in shape_of(node)]
                self.register_buffer(_cache_name(*match.groups()), untouched_zeros(tuple(shape)))
        add = self._add_rows if dialect.rows else self._add_layer
        for node in source.nodes(LINEAR, EMBEDDING):
            add(node)
        for site in sites:
            self._add_ffn(site)
        for name in sorted(self._direct_weights()):
            self.register_buffer(_identifier(name), store.load(self._by_name[name]))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the graph; see the class for inputs and outputs."""
        by_name = dict(zip(self.inputs, inputs, strict=True))
        self.values, self.memo = {}, {}
        for node in self.source.graph.nodes:
            if node.op == "placeholder" and node.name in by_name:
                self.values[node] = by_name[node.name]
            elif node.op == "call_function":
                self.values[node] = self.dialect.translators[node.target](self, node)
        (output,) = (n for n in self.source.graph.nodes if n.op == "output")
        names_and_nodes = zip(self.source.outputs, output.args[0], strict=True)
        return tuple(self.value(node) for name, node in names_and_nodes if "_cache." not in name)

    def value(self, argument: object) -> Any:
        """What an argument of a node stands for: a computed value, a weight or a constant."""
        if isinstance(argument, (list, tuple)):
            return [self.value(item) for item in argument]
        if not isinstance(argument, fx.Node):
            return argument
        if argument in self.values:
            return self.values[argument]
        if match := _CACHE.fullmatch(argument.name):
            return self.get_buffer(_cache_name(*match.groups()))
        return self.get_buffer(_identifier(self.source.weight(argument).name))

    def layer(self, node: fx.Node) -> nn.Module:
        """The module of a linear or embedding node."""
        return self.get_submodule(self._layer_name(node))

    def rows(self, node: fx.Node) -> Tensor:
        """The stored rows of a linear or embedding node."""
        return self.get_buffer(self._rows_name(node))

    def site(self, node: fx.Node) -> FfnSite:
        """The FFN or experts that a node is."""
        return ffn_site(self.source, self.sites, node)

    def ffn(self, node: fx.Node) -> dict[str, Tensor]:
        """The stored weights of an FFN node, by the dialect's names."""
        site = self.site(node)
        parts = self.dialect.ffn_weights(ffn_weights(self.source, site))
        return {part: self.get_buffer(_ffn_name(site, part)) for part in parts}

    def _add_ffn(self, site: FfnSite) -> None:
        for part, weight in self.dialect.ffn_weights(ffn_weights(self.source, site)).items():
            name = _ffn_name(site, part)
            hold = self.store.defer if self.dialect.deferred else self.store.load
            self.register_buffer(name, hold(replace(weight, name=name)))

    def _direct_weights(self) -> set[str]:
        """Names of the weights that neither a layer nor an FFN holds."""
        held = {self._layer_weight(node).name for node in self.source.nodes(LINEAR, EMBEDDING)}
        held |= {w.name for site in self.sites for w in ffn_weights(self.source, site).all}
        if self.dialect.rows is None:
            held |= {
                self.source.weight(node.args[2]).name
                for node in self.source.nodes(LINEAR)
                if len(node.args) > 2 and isinstance(node.args[2], fx.Node)
            }
        return self._by_name.keys() - held

    def _add_rows(self, node: fx.Node) -> None:
        """A tensor that serves as an embedding and as a head is stored once."""
        assert self.dialect.rows is not None
        name, weight = self._rows_name(node), self.dialect.rows(self._layer_weight(node))
        self.register_buffer(name, self.store.defer(replace(weight, name=name)))

    def _rows_name(self, node: fx.Node) -> str:
        return f"rows_{_identifier(self._layer_weight(node).name)}"

    def _add_layer(self, node: fx.Node) -> None:
        """Linears and embeddings are modules, because that is what quantisation works on."""
        name = self._layer_name(node)
        if name in self._modules:
            return
        data = self.store.load(self._layer_weight(node))
        layer: nn.Module
        if node.target is LINEAR:
            bias = node.args[2] if len(node.args) > 2 else None
            layer = nn.Linear(data.shape[1], data.shape[0], bias=bias is not None, device="meta")
            if isinstance(bias, fx.Node):
                layer.bias = nn.Parameter(self.store.load(self.source.weight(bias)), False)
        else:
            layer = nn.Embedding(data.shape[0], data.shape[1], device="meta")
        layer.weight = nn.Parameter(data, False)
        self.add_module(name, layer)

    def _layer_weight(self, node: fx.Node) -> Weight:
        return self.source.weight(operand(node, 1 if node.target is LINEAR else 0))

    def _layer_name(self, node: fx.Node) -> str:
        """One tensor may serve as an embedding and as a head, which are quantised differently."""
        kind = "linear" if node.target is LINEAR else "embedding"
        return f"{kind}_{_identifier(self._layer_weight(node).name)}"

    def _require_known(self) -> None:
        for node in self.source.nodes():
            if node.target not in self.dialect.translators:
                raise LoweringError(
                    f"{self.source.name}: operator {node.target} has no ExecuTorch translation; "
                    f"known: {', '.join(sorted(map(str, self.dialect.translators)))}"
                )


def _cache_name(kind: str, layer: str) -> str:
    return f"{kind}_cache_{layer}"


def _ffn_name(site: FfnSite, part: str) -> str:
    return f"ffn_{site.layer}_{part}"


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)
