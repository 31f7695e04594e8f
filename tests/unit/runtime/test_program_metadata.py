"""The text that a program describes itself with."""

from __future__ import annotations

import pytest

from glass_export.errors import ArtifactError
from glass_export.runtime.program_metadata import FORMAT_VERSION, decode, encode


def test_every_kind_of_value_survives() -> None:
    fields = {
        "name": "a = b, c", "layers": 3, "tau": 0.5, "custom_ops": True, "tied": False,
        "bos_token_id": None, "eos_token_ids": (1, 7), "special_token_ids": [], "empty": "",
    }  # fmt: skip
    assert decode(encode(fields), "model.pte") == {
        "format_version": str(FORMAT_VERSION),
        "name": "a = b, c", "layers": "3", "tau": "0.5", "custom_ops": "true", "tied": "false",
        "bos_token_id": "", "eos_token_ids": "1,7", "special_token_ids": "", "empty": "",
    }  # fmt: skip


def test_the_version_comes_first() -> None:
    assert encode({"a": 1}).splitlines() == [f"format_version={FORMAT_VERSION}", "a=1"]


def test_a_line_break_is_refused() -> None:
    with pytest.raises(ValueError, match="line break"):
        encode({"name": "one\ntwo"})


@pytest.mark.parametrize(
    ("text", "found"),
    [(f"format_version={FORMAT_VERSION + 1}\nname=x", FORMAT_VERSION + 1), ("name=x", None)],
)
def test_another_version_is_refused(text: str, found: int | None) -> None:
    message = f"model.pte: format_version is {found}, this program reads {FORMAT_VERSION}; export"
    with pytest.raises(ArtifactError, match=message):
        decode(text, "model.pte")
