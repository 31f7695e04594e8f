"""Manifests: the round trip is exact, and no text makes the reader fail in another way."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import tiny_artifact
from hypothesis import given
from hypothesis import strategies as st

from glass_export.artifact import CHECKSUM_NAME, Artifact
from glass_export.errors import ArtifactError
from glass_export.manifest import FileEntry, Manifest
from glass_export.schema import to_data

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(), max_size=20)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
SIZES = st.integers(1, 2**40)
POSITIVE = st.floats(0.001, 100)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    base = tiny_artifact.manifest()
    names = draw(st.lists(TEXT, unique=True, max_size=4))
    sizes = {f.name: draw(SIZES) for f in dataclasses.fields(base.model.dims)}
    model = dataclasses.replace(
        base.model,
        name=draw(TEXT),
        dims=dataclasses.replace(base.model.dims, **sizes),
        bos_token_id=draw(st.none() | SIZES),
        eos_token_ids=tuple(draw(st.lists(SIZES, max_size=3))),
    )
    prior = dataclasses.replace(base.prior, seed=draw(SIZES), temperature=draw(POSITIVE))
    return dataclasses.replace(
        base,
        model=model,
        prior=prior,
        selection=dataclasses.replace(base.selection, density=draw(st.floats(0.01, 1))),
        tools=draw(st.dictionaries(TEXT, TEXT, max_size=3)),
        verification=draw(st.none() | st.just({"passed": True, "checks": [{"value": 1e-7}]})),
        files=tuple(FileEntry(path=n, size=draw(SIZES), sha256=draw(TEXT)) for n in names),
    )


@given(manifests())
def test_round_trip(manifest: Manifest) -> None:
    text = manifest.to_json()
    assert Manifest.from_json(text) == manifest
    assert Manifest.from_json(text).to_json() == text


def _opens_or_is_refused(content: bytes) -> None:
    """Through the file system too, so that names and numbers reach the checks behind the parser."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tiny_artifact.fill(root)
        (root / "glass.json").write_bytes(content)
        (root / CHECKSUM_NAME).write_text(f"{hashlib.sha256(content).hexdigest()}  glass.json\n")
        try:
            Artifact.open(root, check="full")
        except ArtifactError as error:
            assert str(root) in str(error)


@given(st.binary(max_size=200))
def test_random_bytes(content: bytes) -> None:
    _opens_or_is_refused(content)


@given(JSON)
def test_random_json(data: Any) -> None:
    _opens_or_is_refused(json.dumps(data).encode())


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data)
    found = []
    for key, value in items:
        found.append((*path, key))
        if isinstance(value, dict | list):
            found += _places(value, (*path, key))
    return found


VALID = to_data(
    dataclasses.replace(
        tiny_artifact.manifest(),
        files=(FileEntry(path="weights.bin", size=64, sha256="0" * 64),),
    )
)
VALID = json.loads(json.dumps(VALID))


@given(st.sampled_from(_places(VALID)), JSON | st.just("missing"))
def test_one_value_replaced(place: tuple[Any, ...], value: Any) -> None:
    data = copy.deepcopy(VALID)
    parent = data
    for key in place[:-1]:
        parent = parent[key]
    if value == "missing":
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    _opens_or_is_refused(json.dumps(data).encode())


def test_nesting_beyond_the_recursion_limit() -> None:
    _opens_or_is_refused(b"[" * 100_000)
    _opens_or_is_refused(b'{"schema_version": 1, "recipe": ' + b"[" * 900 + b"]" * 900 + b"}")
