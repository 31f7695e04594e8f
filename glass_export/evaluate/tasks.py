"""Tasks of lm-eval (multiple choice, short answers), dense and with chosen neurons.

lm-eval makes the prompts and judges the answers; it is imported when it is needed. Of an artifact,
neither torch nor transformers is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from glass_export.artifact import Artifact
from glass_export.errors import EvaluationError
from glass_export.evaluate.artifact import require_possible
from glass_export.evaluate.methods import Chooser, Method, method
from glass_export.evaluate.scorer import Encoder, Scorer, SharedScores
from glass_export.evaluate.scorer_artifact import ArtifactScorer
from glass_export.evaluate.summary import versions
from glass_export.evaluate.sweep import Sweep
from glass_export.fusion import Priors
from glass_export.log import logger
from glass_export.recipe import Recipe
from glass_export.runtime import Session

if TYPE_CHECKING:
    from glass_export.evaluate.run import FindRule

INSTALL = "pip install 'glass-export[tasks]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSettings:
    """What to evaluate on, and how.

    Attributes:
        tasks: Names of lm-eval's tasks, groups or tags.
        sweep: What is compared, with the dense model, and without refresh and dense start.
        limit: Only the first so many questions of each task; None for all.
        folder: Has tasks of the user's own, as .yaml files.
        seed: Of random neurons.
    """

    tasks: tuple[str, ...]
    sweep: Sweep
    limit: int | None = None
    folder: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.tasks or not all(self.tasks):
            raise EvaluationError(
                f"tasks: got {','.join(self.tasks)!r}, expected names joined by commas"
            )
        if self.sweep.refresh or self.sweep.dense_start:
            raise EvaluationError(
                "refresh, dense_start: the answers of tasks are scored with one choice of neurons; "
                "leave them out"
            )
        if "oracle" in self.sweep.methods:
            raise EvaluationError(
                "methods: 'oracle' knows the answer, and a task has several or none; leave it out"
            )
        if self.folder is not None and not self.folder.is_dir():
            raise EvaluationError(
                f"tasks_path {str(self.folder)!r}: expected a folder with tasks as .yaml files"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """A figure that a task reports.

    ``filter``: how answers were read, ``none`` for as they are; ``error``: standard error over
    questions as lm-eval gives it, None where it gives none.
    """

    task: str
    metric: str
    filter: str
    value: float
    error: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodScores:
    """The scores of one method on all tasks."""

    label: str
    method: str
    density: float
    scores: tuple[TaskScore, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEvaluation:
    """Outcome of an evaluation on tasks; the first method is the dense model.

    ``subject``: name of the model or artifact; ``where``: what ran it, in words; ``questions``: how
    many of each task; ``decoded``: share of the tokens of scored answers that a decode step
    predicted: the first one of each comes from the dense prefill. None if no answer was scored;
    ``versions``: of the software.
    """

    subject: str
    where: str
    questions: dict[str, int]
    methods: tuple[MethodScores, ...]
    decoded: float | None
    versions: dict[str, str] = field(default_factory=dict)


def evaluate_artifact_tasks(
    path: Path, settings: TaskSettings, *, threads: int | None = None
) -> TaskEvaluation:
    """Scores of an artifact, by its own engine and driver; dense is its own dense form.

    Args:
        path: The artifact's directory; ``auto`` stands for its default selection.
        settings: What is compared, and on what.
        threads: CPU threads of the engine; None lets it decide.

    Raises:
        EvaluationError: lm-eval is not installed, a task cannot be loaded or run, or the methods
            do not fit an artifact.
        GlassError: the artifact cannot be opened or run.
    """
    manifest = Artifact.open(path).manifest
    own = manifest.selection
    methods = _compared(settings.sweep.expand(own.density, own))
    chooser = Chooser(Priors({}), None, settings.seed)
    chooser.check(methods)
    require_possible(methods)
    harness = _harness()
    tasks = harness.load_tasks(settings.tasks, settings.folder)
    with Session.open(path, threads=threads) as session:
        ends = manifest.model.eos_token_ids
        scorer = ArtifactScorer(session, methods, chooser, ends)
        return _run(
            harness,
            tasks,
            scorer,
            Encoder(session.text, _prefix(manifest.model.bos_token_id, ends), scorer.max_length),
            settings.limit,
            subject=str(path),
            where=f"artifact of {manifest.model.name} for {manifest.target.name}, "
            f"{manifest.target.dtype}; dense is its own dense form",
            versions=versions("lm_eval", manifest.target.name.replace("onnx", "onnxruntime")),
        )


def evaluate_model_tasks(
    recipe: Recipe,
    settings: TaskSettings,
    *,
    find_auto: FindRule | None = None,
    threads: int | None = None,
) -> TaskEvaluation:
    """Scores of a model itself, in float32, before any export.

    Args:
        recipe: Names the model and says how its prior is measured.
        settings: What is compared, and on what.
        find_auto: As of :func:`.run.evaluate_model`.
        threads: CPU threads; None takes all that the process may use.

    Raises:
        EvaluationError: lm-eval is not installed, a task cannot be loaded or run, or the methods
            do not fit the model.
        GlassError: the model cannot be loaded, or its prior not be measured.
    """
    harness = _harness()
    tasks = harness.load_tasks(settings.tasks, settings.folder)

    from glass_export.evaluate.eager import EagerModel
    from glass_export.evaluate.run import open_model, torch_threads
    from glass_export.evaluate.scorer_eager import EagerScorer
    from glass_export.runtime.request import checked_threads

    recipe = replace(recipe, selection=replace(recipe.selection, refresh=0, dense_start=0))
    with torch_threads(checked_threads(threads)):
        opened = open_model(recipe, settings.sweep, settings.seed, find_auto)
        loaded, methods = opened.loaded, _compared(opened.methods)
        eager = EagerModel(loaded.model, opened.sites)
        ends = loaded.eos_token_ids
        scorer = EagerScorer(eager, methods, opened.chooser, opened.codec, ends)
        return _run(
            harness,
            tasks,
            scorer,
            Encoder(opened.codec, _prefix(loaded.bos_token_id, ends), scorer.max_length),
            settings.limit,
            subject=recipe.model.name,
            where="the model itself, float32",
            versions=versions("lm_eval", "torch", "transformers"),
        )


def _harness() -> ModuleType:
    """The module that needs lm-eval. Raises EvaluationError when that is not installed."""
    try:
        from glass_export.evaluate import harness
    except ModuleNotFoundError as problem:
        raise EvaluationError(
            f"tasks: lm-eval is not installed ({problem.name} is missing); run: {INSTALL}"
        ) from problem
    return harness


def _compared(methods: Sequence[Method]) -> tuple[Method, ...]:
    """The dense model and the methods, each once, with one choice of neurons for an answer."""
    once = [
        replace(row, selection=replace(row.selection, refresh=0, dense_start=0)) for row in methods
    ]
    if once != list(methods):
        logger.warning("tasks are measured without refresh and dense start")
    return tuple(dict.fromkeys([method("dense", None), *once]))


def _prefix(bos: int | None, ends: tuple[int, ...]) -> int:
    """What stands for an empty context: the token that starts a text, else one that ends it."""
    return ends[0] if bos is None else bos


def _run(
    harness: ModuleType,
    tasks: dict[str, Any],
    scorer: Scorer,
    encoder: Encoder,
    limit: int | None,
    **about: Any,
) -> TaskEvaluation:
    """Ask all methods; ``about``: further fields of TaskEvaluation."""
    shared = SharedScores(scorer, encoder)
    results = [
        harness.run_tasks(tasks, shared, index, limit) for index in range(len(scorer.methods))
    ]
    _warn(encoder, shared)
    return TaskEvaluation(
        questions={
            name: int(count["effective"]) for name, count in results[0]["n-samples"].items()
        },
        methods=tuple(
            MethodScores(
                label=row.label,
                method=row.name,
                density=row.selection.density,
                scores=tuple(_scores(found["results"])),
            )
            for row, found in zip(scorer.methods, results, strict=True)
        ),
        decoded=shared.decoded / shared.scored if shared.scored else None,
        **about,
    )


def _warn(encoder: Encoder, shared: SharedScores) -> None:
    """Of what makes the figures mean less than they seem to."""
    if encoder.cut:
        logger.warning(
            "%d contexts were longer than %d tokens and cut off at their starts",
            len(encoder.cut),
            encoder.max_length,
        )
    if shared.scored and not shared.decoded:
        logger.warning(
            "all answers are single tokens, which the dense prefill predicts: sparse decoding "
            "does not change these figures"
        )


def _scores(results: dict[str, dict[str, Any]]) -> list[TaskScore]:
    """Figures of all tasks and groups, from ``{"acc,none": ..., "acc_stderr,none": ...}`` each."""
    found = []
    for task, values in results.items():
        for key, value in values.items():
            metric, comma, name = key.partition(",")
            if not comma or metric.endswith("_stderr") or isinstance(value, str):
                continue
            error = values.get(f"{metric}_stderr,{name}")
            found.append(
                TaskScore(
                    task=task,
                    metric=metric,
                    filter=name,
                    value=float(value),
                    error=float(error) if isinstance(error, (int, float)) else None,
                )
            )
    return found
