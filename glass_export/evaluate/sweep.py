"""What an evaluation compares, and on what: methods, and settings that they are combined with.

Neither torch nor transformers is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from glass_export.errors import EvaluationError
from glass_export.evaluate.answers import AnswerSettings
from glass_export.evaluate.methods import Method, NullText, method
from glass_export.evaluate.prompts import EvalPrompt
from glass_export.recipe import SelectionRecipe
from glass_export.spec import NullStart

STANDARD = ("griffin", "a-glass", "i-glass", "shrinkage")
"""Rules that are compared when none is named."""
LARGE_VOCABULARY = 200_000
"""Above so many entries every fourth step is compared, unless asked otherwise."""


def steps_between(vocabulary: int) -> int:
    """Decode steps from one comparison to the next that suit a vocabulary of this size."""
    return 4 if vocabulary > LARGE_VOCABULARY else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Methods and the values to combine them with; the rows are the cross product.

    A setting without values leaves a method at its own. ``lam`` changes rules whose fusion is borda
    alone, ``tau`` those of shrinkage; ``prompt_tokens`` those that score the prompt. Those that use
    a prior are changed by ``prior_tokens`` and ``prior_text``, the length and the start of the text
    that it is measured on.
    """

    methods: tuple[str, ...]
    density: tuple[float, ...] = ()
    refresh: tuple[int | str, ...] = ()
    dense_start: tuple[int, ...] = ()
    lam: tuple[float, ...] = ()
    tau: tuple[float, ...] = ()
    prompt_tokens: tuple[int, ...] = ()
    prior_tokens: tuple[int, ...] = ()
    prior_text: tuple[NullStart, ...] = ()

    def expand(
        self, density: float, auto: SelectionRecipe | None, auto_text: NullStart = "null"
    ) -> tuple[Method, ...]:
        """The methods to compare, each once, in the order of their names.

        Args:
            density: Of all methods, when the sweep names none.
            auto: The rule that ``auto`` stands for; None when there is none.
            auto_text: What the text of its prior starts with.

        Raises:
            EvaluationError: no method, an unknown one, or a setting that changes none of them.
            RecipeError: a value is out of range.
        """
        for name in ("prompt_tokens", "prior_tokens"):
            if low := [value for value in getattr(self, name) if value < 1]:
                raise EvaluationError(f"{name}: got {low[0]}, expected at least 1")
        sweep = self if self.density else replace(self, density=(density,))
        rows = [
            row
            for name in self.methods
            for row in sweep._variants(name, auto, auto_text if name == "auto" else "null")
        ]
        if not rows:
            raise EvaluationError("methods: got none, expected at least one")
        self._require_use(rows)
        return tuple(dict.fromkeys(rows))

    def _variants(
        self, name: str, auto: SelectionRecipe | None, text: NullStart
    ) -> Iterator[Method]:
        own = method(name, auto)
        if name == "dense":
            yield own
            return
        fields = ["density", "refresh", "dense_start"]
        if own.choice == "rule":
            fields += {"borda": ["lam"], "shrinkage": ["tau"]}.get(own.selection.fusion, [])
        for values in product(*(getattr(self, field) or (None,) for field in fields)):
            given = zip(fields, values, strict=True)
            changes: dict[str, Any] = {key: value for key, value in given if value is not None}
            yield from self._texts(method(name, auto, **changes), text)

    def _texts(self, row: Method, text: NullStart) -> Iterator[Method]:
        """The row with every length of the prompt and every text of the prior.

        ``text``: its own, when the sweep names none.
        """
        prompts: Sequence[int | None] = self.prompt_tokens if row.uses_prompt else ()
        lengths: Sequence[int | None] = self.prior_tokens if row.uses_prior else ()
        starts: Sequence[NullStart] = self.prior_text if row.uses_prior else ()
        for prompt, tokens, start in product(
            prompts or (None,), lengths or (None,), starts or (text,)
        ):
            yield replace(row, prompt_tokens=prompt, null_text=NullText(tokens, start))

    def _require_use(self, rows: Sequence[Method]) -> None:
        """Raise EvaluationError for a setting that no row depends on."""
        fusions = {row.selection.fusion for row in rows if row.uses_prior}
        used = {
            "lam": ("borda" in fusions, "whose fusion is borda"),
            "tau": ("shrinkage" in fusions, "whose fusion is shrinkage"),
            "prompt_tokens": (any(row.uses_prompt for row in rows), "that scores the prompt"),
            "prior_tokens": (bool(fusions), "that uses a prior"),
            "prior_text": (bool(fusions), "that uses a prior"),
        }
        for name, (used_by_one, which) in used.items():
            if getattr(self, name) and not used_by_one:
                raise EvaluationError(
                    f"{name}: none of the methods {', '.join(self.methods)} is one {which}; add "
                    f"such a method, or leave {name} out"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSettings:
    """What to evaluate on, and how.

    Attributes:
        prompts: What the model is asked.
        prompts_name: Name of their set or file.
        sweep: What is compared.
        answers: How the dense model answers; its seed is that of random neurons, too.
        every: Predictions of every so many decode steps are compared; None for what suits the
            vocabulary.
        baseline: Name of the method that ratios refer to, if it is compared.
    """

    prompts: tuple[EvalPrompt, ...]
    prompts_name: str
    sweep: Sweep
    answers: AnswerSettings
    every: int | None = None
    baseline: str = "griffin"

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise EvaluationError(f"every: got {self.every}, expected at least 1 (decode step)")

    def every_of(self, vocabulary: int) -> int:
        """Decode steps from one comparison to the next, for a vocabulary of this size."""
        return self.every or steps_between(vocabulary)

    def described(self, every: int) -> dict[str, float]:
        """Settings that the figures depend on, for a report; ``every`` as it was used."""
        answers = self.answers
        return {
            "answer_tokens": answers.tokens,
            "temperature": answers.temperature,
            "seed": answers.seed,
            "every": every,
        }
