"""Evaluation of an artifact on its own engine, token by token, with the driver that serves it.

Dense means the artifact's own dense form: of a quantised one, the quantised dense model. Neither
torch nor transformers is imported. Legend: N decode steps of a text, N' of them measured, L layers,
K kept neurons, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from glass_export.artifact import Artifact
from glass_export.errors import EvaluationError
from glass_export.evaluate.answers import Answers, asked, encode, remembered, usable_texts
from glass_export.evaluate.methods import Chooser, Method, NullText, first_sparse_step, overlap
from glass_export.evaluate.prompts import digest
from glass_export.evaluate.summary import Evaluation, evaluation, versions
from glass_export.evaluate.sweep import EvalSettings
from glass_export.evaluate.texts import EvalText
from glass_export.evaluate.trace import Trace
from glass_export.fusion import Priors
from glass_export.log import progress
from glass_export.manifest import Manifest
from glass_export.paths import cache_dir
from glass_export.runtime import SamplingParams, Session
from glass_export.runtime.base import FloatArray, IndexArray, LocalStatistics


def evaluate_artifact(
    path: Path, settings: EvalSettings, *, threads: int | None = None
) -> Evaluation:
    """How faithful the methods are to the artifact's own dense form, and how fast they decode.

    Args:
        path: The artifact's directory; ``auto`` stands for its default selection.
        settings: What is compared, and on what.
        threads: CPU threads of the engine; None lets it decide.

    Raises:
        EvaluationError: the settings do not fit together or an artifact, or no answer is long
            enough.
        GlassError: the artifact cannot be opened or run, or a prompt does not fit its context.
    """
    manifest = Artifact.open(path).manifest
    methods = settings.sweep.expand(manifest.selection.density, manifest.selection)
    chooser = Chooser(Priors({}), None, settings.answers.seed)
    chooser.check(methods)
    require_possible(methods)
    with Session.open(path, threads=threads) as session:
        encoded = [encode(session.text, prompt) for prompt in settings.prompts]
        answers = remembered(
            cache_dir() / "answers", _key(manifest, settings), lambda: _sampled(session, settings)
        )
        texts = usable_texts(encoded, answers)
        every = settings.every_of(session.backend.dims.vocab_size)
        runner = Runner(session, methods, chooser, every)
        with progress("comparing methods", len(texts), "texts") as task:
            for index, text in enumerate(texts):
                runner.measure(text, index)
                task.advance()
    form = manifest.target.dtype
    return evaluation(
        settings,
        methods,
        runner.traces[:-1],
        texts,
        runner.traces[-1],
        every,
        speeds=[clock.speed for clock in runner.clocks],
        subject=str(path),
        where=f"artifact of {manifest.model.name} for {manifest.target.name}, {form}; dense is its "
        "own dense form",
        versions=versions(manifest.target.name.replace("onnx", "onnxruntime")),
    )


def require_possible(methods: Sequence[Method]) -> None:
    """Raise EvaluationError for a method that an artifact cannot be evaluated with."""
    for row in methods:
        if row.choice != "rule" and (row.selection.refresh or row.selection.dense_start):
            raise EvaluationError(
                f"methods: {row.label!r}: an artifact chooses again by its rules alone, so "
                f"{row.name!r} has neither refresh nor dense start there; leave one of them out, "
                "or evaluate the model itself"
            )
        if row.null_text != NullText():
            raise EvaluationError(
                f"{row.label!r}: an artifact has one prior, expected no prior_tokens or "
                "prior_text; leave them out, or evaluate the model itself"
            )


def _key(manifest: Manifest, settings: EvalSettings) -> str:
    """All that sampled answers depend on."""
    files = sorted((entry.path, entry.sha256) for entry in manifest.files)
    asked_for = f"{digest(settings.prompts)} {settings.answers}"
    return f"artifact {manifest.recipe_digest} {files} {asked_for}"


def _sampled(session: Session, settings: EvalSettings) -> Answers:
    answers, wanted = [], settings.answers
    with progress("dense answers", len(settings.prompts), "prompts") as task:
        for index, prompt in enumerate(settings.prompts):
            seed = wanted.seed * 1_000_003 + index
            answer = session.generate(
                asked(session.text, prompt),
                max_new_tokens=wanted.tokens,
                sampling=SamplingParams(temperature=wanted.temperature, seed=seed),
                density=1.0,
                reset=True,
            )
            answers.append(list(answer.token_ids))
            task.advance()
    return answers


class _Clock:
    """Tokens and the time that they took."""

    def __init__(self) -> None:
        self.tokens, self.seconds = 0, 0.0

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds if self.seconds else 0.0


class Runner:
    """Measures the dense form and all methods, text by text.

    Attributes:
        traces: For each method, and last for the dense form, a trace of every text so far.
        clocks: Their decoding so far, refreshes included.
    """

    def __init__(
        self, session: Session, methods: Sequence[Method], chooser: Chooser, every: int
    ) -> None:
        self._session, self._methods = session, methods
        self._chooser, self._every = chooser, every
        self.traces: list[list[Trace]] = [[] for _ in range(len(methods) + 1)]
        self.clocks = [_Clock() for _ in range(len(methods) + 1)]

    def measure(self, text: EvalText, index: int) -> None:
        """Measure on text number ``index``."""
        steps = np.arange(0, text.steps, self._every)
        wanted = np.array(text.continuation)[steps + 1]
        if index == 0:  # caches, threads and pages
            self._dense(replace(text, continuation=text.continuation[:4]), _Clock())
        dense = self._dense(text, self.clocks[-1])
        nll = -dense[np.arange(len(steps)), wanted].astype(np.float64)
        activity = self._prefill(text, text.steps).sq_sum
        self.traces[-1].append(Trace(steps, np.zeros(len(steps)), nll, np.ones(len(activity))))
        for row in self._turns(index):
            method = self._methods[row]
            neurons = self._choose(method, text, index, activity)
            found = [
                _compare(log_p, logits, token)
                for log_p, logits, token in zip(
                    dense, self._decode(text, self.clocks[row]), wanted, strict=True
                )
            ]
            kl, nll = np.array(found).T
            self.traces[row].append(Trace(steps, kl, nll, overlap(neurons, activity)))

    def _turns(self, index: int) -> list[int]:
        """The methods in an order that begins elsewhere for each text: machines drift."""
        count = len(self._methods)
        return [(index + row) % count for row in range(count)]

    def _dense(self, text: EvalText, clock: _Clock) -> FloatArray:
        """Log-probabilities of the dense form [N',V]."""
        self._prefill(text)
        self._session.set_neurons(None)
        return np.stack([log_softmax(logits) for logits in self._decode(text, clock)])

    def _choose(
        self, method: Method, text: EvalText, index: int, activity: FloatArray
    ) -> IndexArray:
        """Be ready to decode the text: the prompt is in the cache, and neurons are chosen.

        Returns:
            The first choice [L,K]: after a dense start that of the refresh that ends it.
        """
        start = first_sparse_step(method.selection)
        if method.selection.density == 1.0 or start >= text.steps:
            self._prefill(text)
            self._session.set_neurons(None)
            return np.tile(np.arange(activity.shape[1], dtype=np.int32), (len(activity), 1))
        if method.choice != "rule":
            known = self._prefill(text)
            whole = LocalStatistics(activity, activity, 0.0)
            neurons = self._chooser.neurons(method, known, lambda: whole, index)
            self._session.set_neurons(neurons)
            return neurons
        self._prefill(text, start, method)
        first = replace(method.selection, dense_start=0)
        neurons = self._session.select(**asdict(first))
        if method.selection.dense_start:
            self._prefill(text, 0, method)
            self._session.select(**asdict(method.selection))
        return neurons

    def _prefill(
        self, text: EvalText, steps: int = 0, method: Method | None = None
    ) -> LocalStatistics:
        """Read the prompt and the tokens of the first decode steps densely; their statistics.

        The prompt's are of the tokens that ``method`` scores; None is the user's words.
        """
        scope = (method.selection.local_tokens, method.prompt_tokens) if method else ()
        weights = [*text.scored(*scope), *[1.0] * steps]
        tokens = [*text.prompt, *text.continuation[:steps]]
        return self._session.prefill(tokens, weights).statistics

    def _decode(self, text: EvalText, clock: _Clock) -> Iterator[FloatArray]:
        """Feed the continuation; logits [V] of the N' measured steps, valid until the next."""
        for step, token in enumerate(text.continuation[:-1]):
            start = time.perf_counter()
            logits = self._session.decode(token)
            clock.seconds += time.perf_counter() - start
            clock.tokens += 1
            if step % self._every == 0:
                yield logits


def log_softmax(logits: FloatArray) -> FloatArray:
    """Log-probabilities, summed in float64. Shape: [V] -> [V]."""
    shifted = logits.astype(np.float64) - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()), np.float32)


def _compare(dense: FloatArray, logits: FloatArray, token: int) -> tuple[float, float]:
    """KL(dense || sparse) and the token's NLL in nats, from log-probabilities and logits [V].

    Without a BLAS product: OpenBLAS's threads spin for a while after one, on the cores of the
    decode step that is timed next.
    """
    sparse = log_softmax(logits)
    kl = (np.exp(dense, dtype=np.float64) * (dense - sparse)).sum()
    return max(float(kl), 0.0), -float(sparse[token])
