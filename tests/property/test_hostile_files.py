"""The Python readers of files, given any bytes: an error of ours, or a value.

FUZZ_RUNS: how many.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import golden_artifact
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glass_export import strict_json
from glass_export.artifact.onnx_file import onnx_problem
from glass_export.errors import ArtifactError, GenerationError
from glass_export.manifest import Manifest
from glass_export.runtime.chat_template import ChatTemplate
from glass_export.runtime.pattern_rules import is_quick

ONNX = golden_artifact.FOLDER / "onnx"
RUNS = settings(
    max_examples=int(os.environ.get("FUZZ_RUNS", "100")),
    deadline=None, suppress_health_check=list(HealthCheck),
)  # fmt: skip
USER = [{"role": "user", "content": "Hello"}]


def changed(sound: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with a stretch replaced by others, or anything at all."""

    def change(at: int, length: int, other: bytes) -> bytes:
        start = at % (len(sound) + 1)
        return sound[:start] + other + sound[start + length :]

    return st.one_of(
        st.binary(max_size=200),
        st.builds(change, st.integers(0, 1 << 20), st.integers(0, 40), st.binary(max_size=40)),
    )


def refused_or_read(read: Callable[[], object]) -> None:
    try:
        read()
    except ArtifactError as problem:
        assert problem.code is not None
    except GenerationError:
        pass  # a template may refuse messages


@RUNS
@given(changed((ONNX / "glass.json").read_bytes()))
def test_manifest(content: bytes) -> None:
    refused_or_read(lambda: Manifest.from_json(content))


@RUNS
@given(changed(b'{"a": [1, 2.5e3, "x\\u0041", null, true], "b": {"c": {}}}'))
def test_json(content: bytes) -> None:
    refused_or_read(lambda: strict_json.parse(content, "text"))


@RUNS
@given(changed((ONNX / "pack.onnx").read_bytes()))
def test_graph(content: bytes) -> None:
    problem = onnx_problem(content, "weights.bin", 1 << 20)
    assert problem is None or problem


PIECES = (
    "{% for m in messages %}", "{% endfor %}", "{{ m.content }}", "{% set x = 'ab' * 9 %}",
    "{% if x %}", "{% else %}", "{% endif %}", "{{ x ~ x }}", "{% macro f(n) %}", "{% endmacro %}",
    "{{ f(3) }}", "{% set x = x ~ x %}", "{{ x.replace('a', x) }}", "{{ range(99999)|list }}",
    "{{ messages|tojson }}", "{{", "}}", "{%", "text", "{% set n = namespace(a=1) %}",
)  # fmt: skip


@RUNS
@given(st.one_of(st.lists(st.sampled_from(PIECES), max_size=20).map("".join), st.text(max_size=80)))
def test_template(source: str) -> None:
    refused_or_read(lambda: ChatTemplate(source, {"bos_token": "<s>"}).render(USER))


@RUNS
@given(st.text(alphabet="ab|()[]{}*+?\\^$,19:=!<>pLi", max_size=30))
def test_pattern(pattern: str) -> None:
    assert is_quick(pattern) in (True, False)


@pytest.mark.parametrize("pattern", [
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{M}]*[\p{Ll}\p{Lm}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}",
    " ", r"\p{N}+",
])  # fmt: skip
def test_patterns_of_well_known_tokenizers_are_quick(pattern: str) -> None:
    assert is_quick(pattern)
