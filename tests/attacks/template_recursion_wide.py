"""A macro that calls itself twice, thirty deep."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "template"


def attack(artifact: Path) -> None:
    body = "{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}"
    hostile.put_template(artifact, "{% macro f(n) %}" + body + "{% endmacro %}{{ f(30) }}")
