"""What a program says about itself: the text of its method ``get_metadata``.

Lines of ``key=value``, so that a C++ or mobile runtime reads them without a parser. Lists are
separated by commas.
"""

from __future__ import annotations

from collections.abc import Mapping

from glass_export.errors import ArtifactCode, ArtifactError

FORMAT_VERSION = 1
"""Of the program's methods: their names, inputs and outputs."""


def encode(fields: Mapping[str, object]) -> str:
    """The text of these fields. None is empty; booleans are ``true`` and ``false``."""
    complete = {"format_version": FORMAT_VERSION, **fields}
    lines = [f"{key}={_text(value)}" for key, value in complete.items()]
    if any("\n" in line for line in lines):
        raise ValueError("metadata: a value holds a line break")
    return "\n".join(lines)


def decode(text: str, where: str) -> dict[str, str]:
    """The fields of a text written by :func:`encode`.

    Raises:
        ArtifactError: another format_version.
    """
    fields = dict(line.partition("=")[::2] for line in text.splitlines())
    found = fields.get("format_version")
    if found != str(FORMAT_VERSION):
        raise ArtifactError(
            f"{where}: format_version is {found}, this program reads {FORMAT_VERSION}; "
            "export the model again, or update glass-export",
            ArtifactCode.GRAPH,
        )
    return fields


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(map(_text, value))
    return str(value)
