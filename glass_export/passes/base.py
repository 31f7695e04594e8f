"""Passes: small objects that rewrite a captured graph in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glass_export.errors import GlassError, LoweringError
from glass_export.graph import CapturedGraph
from glass_export.log import logger


@dataclass(frozen=True, slots=True)
class PassResult:
    """The graph a pass returns, and whether the pass changed it."""

    graph: CapturedGraph
    modified: bool


class Pass:
    """One rewrite. Subclasses define ``call``; ``requires`` and ``ensures`` may check the graph."""

    @property
    def name(self) -> str:
        """Name shown in logs and errors."""
        return type(self).__name__

    def requires(self, graph: CapturedGraph) -> None:
        """Raise LoweringError when the graph is not one this pass can work on."""

    def call(self, graph: CapturedGraph) -> PassResult:
        """Rewrite the graph."""
        raise NotImplementedError

    def ensures(self, graph: CapturedGraph) -> None:
        """Raise LoweringError when the rewrite did not achieve what the next passes rely on."""

    def __call__(self, graph: CapturedGraph) -> PassResult:
        """Check, rewrite, drop what is no longer used, check again."""
        self.requires(graph)
        result = self.call(graph)
        result.graph.prune()
        self.ensures(result.graph)
        return result


class PassManager:
    """Runs passes in order; an error names the failed pass and all that ran before it."""

    def __init__(self, passes: Sequence[Pass]) -> None:
        self.passes = tuple(passes)

    def __call__(self, graph: CapturedGraph) -> PassResult:
        """Run every pass once."""
        modified, done = False, list[str]()
        for step in self.passes:
            try:
                result = step(graph)
            except GlassError:
                raise
            except Exception as problem:
                raise LoweringError(
                    f"{graph.name}: pass {step.name} failed: {problem!r}; "
                    f"passes before it: {', '.join(done) or 'none'}"
                ) from problem
            graph, modified = result.graph, modified or result.modified
            done.append(step.name)
            logger.debug("%s: %s %s", graph.name, step.name, "changed" if result.modified else "-")
        return PassResult(graph, modified)
