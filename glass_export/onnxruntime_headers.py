"""The headers of ONNX Runtime that its operators are compiled against.

No Python package has them. They are looked for on the machine; where there is none but apt, those
of Debian are fetched to the cache, as any user, signed and checked by apt. Nothing is installed,
and the headers' version need not be that of the runtime: its C interface only grows.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from filelock import FileLock

from glass_export.errors import NativeError
from glass_export.files import scratch_folder, sync, sync_tree
from glass_export.log import progress
from glass_export.paths import cache_dir

OVERRIDE = "GLASS_EXPORT_ONNXRUNTIME_INCLUDE"
HEADER = "onnxruntime_c_api.h"
MINIMUM_API = 18  # csrc/onnxruntime/call.h
_SYSTEM_FOLDERS = (Path("/usr/include/onnxruntime"), Path("/usr/local/include/onnxruntime"))
_PACKAGE = "libonnxruntime-dev"
_SUITE = "trixie"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SOURCES = f"""\
Types: deb
URIs: http://deb.debian.org/debian
Suites: {_SUITE}
Components: main
Signed-By: {_KEYRING}
"""
_HELP = (
    f"install them (on Debian 13: apt install {_PACKAGE}), or set {OVERRIDE} to a folder that "
    f"holds {HEADER} (it is in the archives of ONNX Runtime's releases), or export with --set "
    "target.custom_ops=false"
)


def folder() -> Path:
    """Folder that holds ``onnxruntime_c_api.h``; fetched when there is none and apt is.

    Raises:
        NativeError: there are no headers within reach, or the chosen ones are not usable.
    """
    return find() or _fetch()


def find() -> Path | None:
    """The same, without fetching: None when there is none yet.

    Raises:
        NativeError: the folder chosen by the environment has no headers, or too old ones.
    """
    if chosen := os.environ.get(OVERRIDE):
        path = Path(chosen).expanduser()
        if (api_version(path) or 0) < MINIMUM_API:
            raise NativeError(
                f"{OVERRIDE}={path}: expected a folder with the {HEADER} of ONNX Runtime "
                f"1.{MINIMUM_API} or newer, got {_shown(api_version(path))}"
            )
        return path
    for path in (*_SYSTEM_FOLDERS, *_pkg_config(), _cached()):
        if (api_version(path) or 0) >= MINIMUM_API:
            return path
    return None


def api_version(path: Path) -> int | None:
    """Version of the C interface in a folder of headers; None without headers."""
    try:
        text = (path / HEADER).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r"^#define ORT_API_VERSION (\d+)", text, re.MULTILINE)
    return int(match.group(1)) if match else None


def _shown(version: int | None) -> str:
    return "no such header" if version is None else f"1.{version}"


def _pkg_config() -> list[Path]:
    """The folder that pkg-config knows, if any."""
    if not shutil.which("pkg-config"):
        return []
    command = ["pkg-config", "--variable=includedir", "libonnxruntime"]
    text = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return [Path(text)] if text else []


def _cached() -> Path:
    return cache_dir() / "native" / f"onnxruntime-headers-{_SUITE}"


def _fetch() -> Path:
    """Fetch Debian's headers to the cache; they appear complete or not."""
    target = _cached()
    missing = [tool for tool in ("apt-get", "dpkg-deb") if not shutil.which(tool)]
    missing += [] if _KEYRING.is_file() else [str(_KEYRING)]
    if missing:
        raise _not_found(f"they cannot be fetched from Debian, for lack of {', '.join(missing)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        FileLock(f"{target}.lock"),
        progress("fetching the headers of ONNX Runtime (once)", None, "steps"),
        scratch_folder(target.parent, "headers-") as scratch,
    ):
        if api_version(target) is None:
            unpacked = _download(scratch) / "usr/include/onnxruntime"
            if (api_version(unpacked) or 0) < MINIMUM_API:
                raise _not_found(
                    f"Debian's package {_PACKAGE} holds {_shown(api_version(unpacked))}, expected "
                    f"1.{MINIMUM_API} or newer"
                )
            shutil.rmtree(target, ignore_errors=True)  # damaged, or it would have a version
            sync_tree(unpacked)
            os.replace(unpacked, target)
            sync(target.parent)
    return target


def _download(scratch: Path) -> Path:
    """Download and unpack the package with apt, whose own state is not touched."""
    (scratch / "lists/partial").mkdir(parents=True)
    (scratch / "archives/partial").mkdir(parents=True)
    (scratch / "status").touch()
    (scratch / "debian.sources").write_text(_SOURCES)
    settings = {
        "Dir::State": scratch,
        "Dir::State::lists": scratch / "lists",
        "Dir::State::status": scratch / "status",
        "Dir::Cache": scratch,
        "Dir::Etc::sourcelist": scratch / "debian.sources",
        "Dir::Etc::sourceparts": "/dev/null",
        "Acquire::Languages": "none",
        "Acquire::Retries": 2,
        "Acquire::http::Timeout": 30,  # seconds
        "APT::Sandbox::User": "",  # the scratch folder is the caller's alone
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
    _run([*apt, "update", "--error-on=any"], scratch)
    _run([*apt, "download", _PACKAGE], scratch)
    (package,) = scratch.glob(f"{_PACKAGE}_*.deb")
    _run(["dpkg-deb", "-x", str(package), str(scratch / "unpacked")], scratch)
    return scratch / "unpacked"


def _run(command: list[str], where: Path) -> None:
    outcome = subprocess.run(command, cwd=where, capture_output=True, text=True)
    if outcome.returncode:
        said = (outcome.stderr.strip() or outcome.stdout.strip()).splitlines()[-5:]
        raise _not_found(f"fetching Debian's package {_PACKAGE} failed: {'; '.join(said)}")


def _not_found(why: str) -> NativeError:
    looked = ", ".join(map(str, _SYSTEM_FOLDERS))
    return NativeError(
        f"the operators are compiled against the headers of ONNX Runtime: looked for {HEADER} in "
        f"${OVERRIDE}, {looked} and where pkg-config points, found none of version "
        f"1.{MINIMUM_API} or newer, and {why}; {_HELP}"
    )


if __name__ == "__main__":
    print(folder())
