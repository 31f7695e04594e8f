"""A warm server for exports that die: imports everything once and forks a child for each job.

Reads one JSON object a line: ``{"start": JOB}`` answers ``{"pid": PID}``, ``{"wait": PID}`` answers
``{"status": CODE}``, negative for a signal. A job says where things are (``cache``, ``folder`` for
the records below, ``output``), what is to be done (``recipe``, or ``profile`` for what tune
writes), in which ``team`` (environment variables), and what fault is armed; see faults.c.

A child writes to its folder: ``events``, the stages that it began and what it kept; ``trace``, its
armed calls; ``outcome``, "ok" or the kind and the message of the error; ``log``.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from glass_export import calibrate, paths, pipeline, search
from glass_export.artifact import write_profile
from glass_export.calibrate.cache import CalibrationCache
from glass_export.calibrate.team import current
from glass_export.errors import GlassError, RecipeError
from glass_export.recipe import Recipe
from glass_export.runtime import engines
from glass_export.schema import from_data
from glass_export.selection import Profile

BEGIN = (
    (calibrate, "write_text", "text"),
    (calibrate, "measure", "measure"),
    (search, "_search", "search"),
    (pipeline, "make_reference", "reference"),
)
KEPT = (
    (CalibrationCache, "save_prior", "measure"),
    (search, "_save", "search"),
    (pipeline, "kept_reference", "reference"),
)


def watch(events: int) -> None:
    """Have the stages note when they begin and when their results are kept."""

    def wrap(owner: Any, name: str, before: str, after: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if before:
                os.write(events, f"begin {before}\n".encode())
            result = inner(*args, **kwargs)
            if after:
                os.write(events, f"kept {after}\n".encode())
            return result

        setattr(owner, name, call)

    for owner, name, stage in BEGIN:
        wrap(owner, name, stage, "")
    for owner, name, stage in KEPT:
        wrap(owner, name, "", stage)


def work(job: dict[str, Any]) -> str:
    try:
        if "profile" in job:
            write_profile(job["output"], "tuned", Profile(**job["profile"]))
            return "ok"
        recipe = from_data(Recipe, job["recipe"], error=RecipeError, where="")
        if current().leads:
            pipeline.export(recipe, Path(job["output"]), streamed=job.get("streamed", False))
        else:
            pipeline.help_export(recipe)
        return "ok"
    except GlassError as problem:
        return f"{type(problem).__name__}: {problem}"
    except BaseException:
        return f"unexpected: {traceback.format_exc()}"


def child(job: dict[str, Any]) -> None:
    os.setsid()
    folder = Path(job["folder"])
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update({"GLASS_EXPORT_CACHE": job["cache"], **job.get("team", {})})
    current.cache_clear()
    paths._since = 0.0
    watch(os.open(folder / "events", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    fault = job.get("fault", {})
    ctypes.CDLL(None).torture_arm(
        ":".join(job.get("armed", [])).encode(),
        fault.get("action", 0),
        ctypes.c_long(fault.get("nth", -1)),
        fault.get("code", 0),
        str(folder / "trace").encode(),
    )
    outcome = work(job)
    ctypes.CDLL(None).torture_arm(b"", 0, ctypes.c_long(-1), 0, b"/dev/null")
    (folder / "outcome").write_text(outcome)


def warm(job: dict[str, Any]) -> None:
    """Let one export import and prepare all that the later ones need; no engine is run."""
    os.environ["GLASS_EXPORT_CACHE"] = job["cache"]
    recipe = from_data(Recipe, job["recipe"], error=RecipeError, where="")
    pipeline.export(recipe, Path(job["output"]), streamed=False)
    import_module(engines.ENGINES[recipe.target.name][0])


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        ((kind, content),) = json.loads(line).items()
        if kind == "warm":
            warm(content)
            answer = {}
        elif kind == "start":
            pid = os.fork()
            if pid == 0:
                try:
                    child(content)
                finally:
                    os._exit(0)
            answer = {"pid": pid}
        else:
            _, status = os.waitpid(content, 0)
            answer = {"status": os.waitstatus_to_exitcode(status)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
