"""Kept references: found again, made again when damaged or when fresh results are wanted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glass_export import paths
from glass_export.paths import cache_dir, forget_results
from glass_export.verify.kept import kept_reference
from glass_export.verify.reference import PromptReference, Reference, Tolerance


def reference(tolerance: float) -> Reference:
    floats, whole = np.ones((2, 3), np.float32), np.ones(4, np.int64)
    prompt = PromptReference(
        input_ids=whole, prefill_logits=floats[0], abs_sum=floats, sq_sum=floats, greedy=whole,
        greedy_margin=floats[0], indices=np.ones((2, 1), np.int32), sparse_tokens=whole,
        sparse_margin=floats[0], sparse_logits=floats[0], resumed_logits=floats[0],
    )  # fmt: skip
    return Reference((prompt,), Tolerance(tolerance, tolerance))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Tolerances of the references that ``ask`` has made."""
    monkeypatch.setenv("GLASS_EXPORT_CACHE", str(tmp_path))
    monkeypatch.setattr(paths, "_since", 0.0)
    return []


def ask(made: list[float], key: str) -> float:
    """The tolerance of the reference of a key; each that is made has another one."""

    def make() -> Reference:
        made.append(len(made) + 1.0)
        return reference(made[-1])

    return kept_reference({"model": key}, make).tolerance.logits


def test_a_reference_is_made_once_for_each_key(made: list[float]) -> None:
    assert [ask(made, key) for key in ("a", "b", "a", "b")] == [1, 2, 1, 2]


def test_a_damaged_one_is_made_again(made: list[float]) -> None:
    ask(made, "a")
    (file,) = (cache_dir() / "references").iterdir()
    file.write_bytes(b"cut")
    assert [ask(made, "a"), ask(made, "a")] == [2, 2]


def test_fresh_results_are_made_and_then_used(made: list[float]) -> None:
    ask(made, "a")
    forget_results()
    assert [ask(made, "a"), ask(made, "a")] == [2, 2]


def test_a_cache_that_cannot_be_written_does_not_matter(made: list[float]) -> None:
    (cache_dir() / "references").write_text("a file where the folder should be")
    assert [ask(made, "a"), ask(made, "a")] == [1, 2]
