"""A list that is ten times itself, a dozen times over."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "template"


def attack(artifact: Path) -> None:
    hostile.put_template(
        artifact,
        "{% set a = ['ha', 'ha'] %}"
        + "{% set a = [a, a, a, a, a, a, a, a, a, a] %}" * 12
        + "{{ a }}",
    )
