"""The link to lm-eval, which has to be installed: its tasks, and the model that they ask."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partialmethod
from pathlib import Path
from typing import Any

import datasets.config
import huggingface_hub.constants
import numpy as np
from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager
from tqdm import tqdm  # type: ignore[import-untyped]

from glass_export.errors import EvaluationError
from glass_export.evaluate.scorer import Question, SharedScores
from glass_export.log import third_party_silence
from glass_export.schema import suggest

SEEDS = {"random": 0, "numpy": 1234, "fewshot": 1234}
"""lm-eval's own."""
ANSWER_TOKENS = 256
"""Most tokens of an answer, of tasks that do not say it; lm-eval's own."""

ONLINE_CHOICE = {"HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"}
"""Environment variables by which a user says whether data may be fetched."""

Json = dict[str, Any]


class HarnessModel(LM):  # type: ignore[misc]  # Any to mypy
    """One method, as lm-eval asks a model."""

    def __init__(self, scores: SharedScores, method: int) -> None:
        super().__init__()
        self._scores, self._method = scores, method

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Log-probability of continuations, and whether each is the greedy one."""
        return [*self._scores.likelihoods([request.args for request in requests], self._method)]

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """Refused; :func:`load_tasks` does so before anything is run."""
        raise _rolling(requests[0].task_name)

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Greedy answers."""
        questions = [_question(request) for request in requests]
        return self._scores.answers(questions, self._method)


def load_tasks(names: Sequence[str], folder: Path | None) -> Json:
    """Tasks and their data, for :func:`run_tasks`.

    Args:
        names: Of tasks, groups or tags.
        folder: Has tasks of the user's own, as .yaml files; None: lm-eval's alone.

    Raises:
        EvaluationError: an unknown task, one whose data is not on this machine, or one that
            measures text without a prompt.
    """
    random.seed(SEEDS["random"])
    np.random.seed(SEEDS["numpy"])
    with _guarded():
        manager = TaskManager(include_path=None if folder is None else str(folder))
        for name in names:
            if name not in manager.all_tasks:
                hint = suggest(name, list(manager.all_tasks))
                raise EvaluationError(f"tasks: got {name!r}, which lm-eval does not know; {hint}")
        parts = [_load(manager, name) for name in names]
    found: Json = {
        key: {name: value for part in parts for name, value in part[key].items()}
        for key in ("tasks", "groups", "group_map")
    }
    for name, task in found["tasks"].items():
        if task.OUTPUT_TYPE == "loglikelihood_rolling":
            raise _rolling(name)
        if task.config.num_fewshot is None:
            task.set_config(key="num_fewshot", value=0)
    return found


def run_tasks(tasks: Json, scores: SharedScores, method: int, limit: int | None) -> Json:
    """lm-eval's results of one method; ``limit``: only the first so many questions of each task.

    Raises:
        EvaluationError: lm-eval cannot run a task.
    """
    for task in tasks["tasks"].values():
        task.set_fewshot_seed(seed=SEEDS["fewshot"])  # every method is asked the same
    try:
        with _guarded():
            results: Json = evaluate(
                HarnessModel(scores, method), tasks, limit=limit, log_samples=False
            )
    except ValueError as problem:
        raise EvaluationError(
            f"tasks: lm-eval refuses: {problem}; leave that task out"
        ) from problem
    return results


def _load(manager: TaskManager, name: str) -> Json:
    try:
        found: Json = manager.load([name])
    except Exception as problem:  # tasks run code of their own, and read data in many ways
        reason = str(problem).strip().partition("\n")[0] or type(problem).__name__
        raise EvaluationError(
            f"task {name!r}: it cannot be loaded: {reason}; data is only read from this machine: "
            "set HF_HUB_OFFLINE=0 to fetch it, do so on a machine with a network and copy "
            "~/.cache/huggingface/datasets from there, or give --tasks-path a folder of tasks "
            "whose data is in local files"
        ) from problem
    return found


def _rolling(name: str) -> EvaluationError:
    return EvaluationError(
        f"task {name!r}: it measures the likelihood of whole texts, and there is no prompt to "
        "choose neurons from; choose a task of questions, or eval without --tasks"
    )


def _question(request: Any) -> Question:
    context, settings = request.args
    if settings.get("do_sample") and settings.get("temperature", 1.0) > 0:
        raise EvaluationError(
            f"task {request.task_name!r}: it samples answers, expected greedy ones; choose another "
            "task, or set do_sample to false in a copy of it"
        )
    until = settings.get("until") or ()
    stop = (until,) if isinstance(until, str) else tuple(until)
    limit: int = settings.get("max_gen_toks") or settings.get("max_new_tokens") or ANSWER_TOKENS
    return Question(context, limit, tuple(filter(None, stop)))


@contextmanager
def _guarded() -> Iterator[None]:
    """Data comes from this machine, unless the user says otherwise, and lm-eval is silent."""
    bars = tqdm.__init__
    tqdm.__init__ = partialmethod(bars, disable=True)  # they have no other switch
    switches: tuple[Any, ...] = (huggingface_hub.constants, datasets.config)
    if ONLINE_CHOICE & os.environ.keys():
        switches = ()
    before = [switch.HF_HUB_OFFLINE for switch in switches]
    for switch in switches:
        switch.HF_HUB_OFFLINE = True
    try:
        with third_party_silence():
            yield
    finally:
        tqdm.__init__ = bars
        for switch, value in zip(switches, before, strict=True):
            switch.HF_HUB_OFFLINE = value
