"""A text doubled sixty times."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "template"


def attack(artifact: Path) -> None:
    hostile.put_template(artifact, "{% set x = 'aaaa' %}" + "{% set x = x ~ x %}" * 60 + "{{ x }}")
