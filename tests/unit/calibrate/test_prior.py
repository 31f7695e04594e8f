from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import safetensors.numpy

from glass_export.errors import ArtifactError
from glass_export.prior import Prior, mixed, read_tensors, write_tensors
from glass_export.spec import STATISTICS, NullStart

PRIOR = Prior(
    statistics={
        name: np.random.default_rng(i).random((2, 5), dtype=np.float32)
        for i, name in enumerate(STATISTICS)
    },
    tokens=4096,
    seed=7,
    temperature=0.9,
    model_sha256="ab" * 32,
)


def test_round_trip_and_equal_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.safetensors" for i in range(8)]
    for path in paths:
        PRIOR.save(path)
    assert len({path.read_bytes() for path in paths}) == 1
    loaded = Prior.load(paths[0])
    for name in STATISTICS:
        np.testing.assert_array_equal(loaded.statistics[name], PRIOR.statistics[name])
    assert replace(loaded, statistics={}) == replace(PRIOR, statistics={})
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths)


def test_is_plain_safetensors(tmp_path: Path) -> None:
    PRIOR.save(tmp_path / "p")
    tensors = safetensors.numpy.load_file(tmp_path / "p")
    assert {name: t.shape for name, t in tensors.items()} == dict.fromkeys("AIGF", (2, 5))
    with safetensors.safe_open(tmp_path / "p", framework="numpy") as file:
        metadata = file.metadata()
    metadata.pop("sha256")
    assert metadata == {
        "format_version": "1",
        "tokens": "4096",
        "seed": "7",
        "temperature": "0.9",
        "model_sha256": "ab" * 32,
        "text": "null",
    }


def test_every_flipped_or_missing_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "p"
    PRIOR.save(path)
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        try:
            loaded = Prior.load(path)
        except ArtifactError:
            continue
        np.testing.assert_array_equal(loaded.statistics["A"], PRIOR.statistics["A"])
        assert content[position : position + 1] == b" "  # padding of the header
    path.write_bytes(content[:-1])
    with pytest.raises(ArtifactError):
        Prior.load(path)


def test_missing_file_and_other_contents(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a readable"):
        Prior.load(tmp_path / "none")
    replace(PRIOR, statistics={"A": PRIOR.statistics["A"]}).save(tmp_path / "p")
    with pytest.raises(ArtifactError, match=r"holds A float32\[2, 5\], expected .* A, I, G, F"):
        Prior.load(tmp_path / "p")


@pytest.mark.parametrize("text", get_args(NullStart))
def test_the_kind_of_text_is_kept(tmp_path: Path, text: NullStart) -> None:
    replace(PRIOR, text=text).save(tmp_path / "p")
    assert Prior.load(tmp_path / "p").text == text


def test_files_from_before_there_were_kinds_of_text_are_of_null_text(tmp_path: Path) -> None:
    PRIOR.save(tmp_path / "p")
    tensors, metadata = read_tensors(tmp_path / "p")
    del metadata["text"]
    write_tensors(tmp_path / "p", tensors, metadata)
    assert Prior.load(tmp_path / "p").text == "null"
    write_tensors(tmp_path / "p", tensors, metadata | {"text": "novel"})
    with pytest.raises(ArtifactError, match="text is 'novel', expected one of"):
        Prior.load(tmp_path / "p")


def test_mixed_priors_count_half_each() -> None:
    other = replace(
        PRIOR,
        statistics={name: 3 * values for name, values in PRIOR.statistics.items()},
        tokens=512,
        text="template",
    )
    both = mixed(PRIOR, other)
    for name, values in both.statistics.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, 2 * PRIOR.statistics[name], rtol=1e-6)
    assert tuple(both.statistics) == STATISTICS
    assert (both.text, both.tokens) == ("mixed", 4608)
    assert replace(both, statistics={}, text="null", tokens=4096) == replace(PRIOR, statistics={})


def test_imports_neither_torch_nor_transformers() -> None:
    code = "import sys, glass_export.prior; print({'torch', 'transformers'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
