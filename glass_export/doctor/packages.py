"""Installed packages against the versions that the project asks for.

pyproject.toml is the one place that knows these: it is read itself in a checkout, where an
installation's copy may be older, and otherwise as the metadata of the installed distribution.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from glass_export.doctor.finding import Finding, State

DISTRIBUTION = "glass-export"
CORE = ""
"""Stands for the dependencies that every installation has."""
_NOT_FOR_USE = ("all", "dev")
"""Extras that repeat all others, or are for developers of this project."""
_GROUP = "packages"

Requirements = dict[str, list[Requirement]]
"""By extra, or CORE."""


def requirements() -> Requirements:
    """What the project asks for; extras that repeat others do so without them."""
    found = _of_checkout(Path(__file__).parents[2] / "pyproject.toml") or _of_installation()
    return {
        extra: [needed for needed in listed if needed.name != DISTRIBUTION]
        for extra, listed in found.items()
        if extra not in _NOT_FOR_USE
    }


def _of_checkout(path: Path) -> Requirements:
    """Empty when ``path`` is not this project's pyproject.toml."""
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return {}
    if project.get("name") != DISTRIBUTION:
        return {}
    texts = {CORE: project["dependencies"], **project["optional-dependencies"]}
    return {extra: [Requirement(text) for text in listed] for extra, listed in texts.items()}


def _of_installation() -> Requirements:
    try:
        distribution = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return {}
    extras = distribution.metadata.get_all("Provides-Extra") or []
    found: Requirements = {extra: [] for extra in (CORE, *extras)}
    for text in distribution.requires or []:
        needed = Requirement(text)
        applies = [e for e in found if not needed.marker or needed.marker.evaluate({"extra": e})]
        for extra in [CORE] if CORE in applies else applies:
            found[extra].append(needed)
    return found


def installed(name: str) -> str | None:
    """Version of a distribution, None when it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def examine() -> list[Finding]:
    """All packages that are installed, and what is missing of each extra."""
    wanted = requirements()
    if not wanted:
        fix = f"pip install {DISTRIBUTION}"
        return [_finding(DISTRIBUTION, "its metadata is not installed", "problem", fix)]
    return [*_extras(wanted), *_versions(wanted)]


def _extras(wanted: Requirements) -> Iterator[Finding]:
    for extra, needed in wanted.items():
        missing = [one.name for one in needed if installed(one.name) is None]
        if extra == CORE:
            if missing:
                fix = f"pip install {' '.join(missing)}"
                yield _finding("core", f"missing: {', '.join(missing)}", "problem", fix)
        elif missing:
            fix = f"pip install '{DISTRIBUTION}[{extra}]'"
            yield _finding(f"extra {extra}", f"missing: {', '.join(missing)}", "note", fix)
        else:
            yield _finding(f"extra {extra}", "complete")


def _versions(wanted: Requirements) -> Iterator[Finding]:
    """A line for each installed package, with the narrowest window that applies to it."""
    complete = {
        extra for extra, needed in wanted.items() if all(installed(one.name) for one in needed)
    } | {CORE}
    by_name: dict[str, list[tuple[str, Requirement]]] = {}
    for extra, needed in wanted.items():
        for one in needed:
            by_name.setdefault(one.name, []).append((extra, one))
    for name, users in by_name.items():
        if version := installed(name):
            outside = [
                (extra, one)
                for extra, one in users
                if not one.specifier.contains(version, prereleases=True)
            ]
            if not outside:
                window = max((str(one.specifier) for _, one in users), key=len)
                yield _finding(name, f"{version} (wanted: {window})" if window else version)
                continue
            extra, one = next((pair for pair in outside if pair[0] in complete), outside[0])
            whose = f" by the extra {extra}" if extra else ""
            value = f"{version}, wanted{whose}: {one.specifier}"
            state: State = "problem" if extra in complete else "note"
            yield _finding(name, value, state, f"pip install '{name}{one.specifier}'")


def _finding(name: str, value: str, state: State = "ok", fix: str = "") -> Finding:
    return Finding(group=_GROUP, name=name, value=value, state=state, fix=fix)
