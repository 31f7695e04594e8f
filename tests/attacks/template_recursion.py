"""A macro that calls itself."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "template"


def attack(artifact: Path) -> None:
    hostile.put_template(artifact, "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}")
