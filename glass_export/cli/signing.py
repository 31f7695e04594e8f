"""``keygen`` and ``sign``: whose an artifact is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from glass_export import console

if TYPE_CHECKING:
    from glass_export.artifact import SigningKey

Directory = Annotated[Path, typer.Argument(help="Artifact directory.")]
KeyFile = Annotated[
    Path, typer.Option("--key", metavar="KEY", help="Private key, as `keygen` makes one.")
]
SignOption = Annotated[
    Path | None,
    typer.Option("--sign", metavar="KEY", help="Sign it with this private key (see `keygen`)."),
]
TrustedKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--trusted-key",
        metavar="KEY",
        help="Refuse what this public key (base64, or a file of it) did not sign; repeatable.",
    ),
]


def keygen(
    key: Annotated[Path, typer.Argument(metavar="KEY", help="File for the private key.")],
) -> None:
    """Make an Ed25519 key that signs artifacts: KEY, which stays secret, and KEY.pub."""
    from glass_export.artifact import generate_key

    public = generate_key(key)
    console.stderr.print(
        f"[dim]{escape(str(key))}: keep it secret; apps are given the public key "
        f"({escape(str(key))}.pub, id {public.id}):"
    )
    typer.echo(public.text)


def sign(directory: Directory, key: KeyFile) -> None:
    """Sign a finished artifact; signatures by other keys stay."""
    from glass_export.artifact import sign_artifact

    loaded = load_key(key)
    sign_artifact(directory, loaded)
    console.stdout.print(f"[bold]{escape(str(directory))}[/]  signed by {loaded.public.id}")


def load_key(path: Path) -> SigningKey:
    """The private key in a file. Raises SigningError."""
    from glass_export.artifact import SigningKey

    return SigningKey.load(path)


def trusted_keys(given: Sequence[str] | None) -> list[str] | None:
    """What ``--trusted-key`` means: public keys in base64, from files where it names one.

    Raises:
        SigningError: neither a file nor a public key.
    """
    if not given:
        return None
    from glass_export.artifact import PublicKey

    return [PublicKey.parse(_text(word)).text for word in given]


def _text(word: str) -> str:
    try:
        return Path(word).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return word
