"""``glass-export run``: generate text from an artifact."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from glass_export import console
from glass_export.cli.options import values
from glass_export.cli.signing import TrustedKeys, trusted_keys

if TYPE_CHECKING:
    from glass_export.runtime import Generation, Session

Directory = Annotated[Path, typer.Argument(help="Artifact directory.")]
Messages = list[dict[str, str]]


def refresh_tokens(text: str) -> int | str:
    """What an option ``--refresh`` means: tokens between two refreshes, 0 for ``off``, or ``auto``.

    Raises:
        typer.BadParameter: neither one of these words nor a whole number.
    """
    if text in ("auto", "off"):
        return 0 if text == "off" else text
    try:
        return int(text)
    except ValueError as problem:
        expected = "expected a whole number, auto or off"
        raise typer.BadParameter(f"got {text!r}, {expected}") from problem


def layer_numbers(text: str) -> tuple[int, ...]:
    """What an option ``--dense-layers`` means: numbers of layers, no number for ``none``.

    Raises:
        typer.BadParameter: neither ``none`` nor whole numbers joined by commas.
    """
    return () if text == "none" else values("--dense-layers", text, int)


NEURONS, SAMPLING = "Choice of neurons (default: the artifact's)", "Sampling (default: greedy)"


def run(
    directory: Directory,
    prompt: Annotated[str | None, typer.Argument(help="Without one: an interactive chat.")] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Density, refresh and dense start by name, as `inspect` lists them.",
            rich_help_panel=NEURONS,
        ),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(help="Share of FFN neurons kept; 1.0 is dense.", rich_help_panel=NEURONS),
    ] = None,
    mode: Annotated[
        Literal["auto", "fixed", "paper-a", "paper-i", "griffin"] | None,
        typer.Option(help="Rule by name; auto is the artifact's own.", rich_help_panel=NEURONS),
    ] = None,
    fusion: Annotated[
        Literal["borda", "shrinkage", "local", "global"] | None,
        typer.Option(help="How prompt and prior are combined.", rich_help_panel=NEURONS),
    ] = None,
    local: Annotated[
        Literal["A", "griffin", "squared"] | None,
        typer.Option(help="Score of the prompt's neurons.", rich_help_panel=NEURONS),
    ] = None,
    local_tokens: Annotated[
        Literal["user", "all"] | None,
        typer.Option(help="Prompt tokens that are scored.", rich_help_panel=NEURONS),
    ] = None,
    prior: Annotated[
        Literal["A", "I", "G", "F"] | None,
        typer.Option(help="Statistic of the global prior.", rich_help_panel=NEURONS),
    ] = None,
    lam: Annotated[
        float | None,
        typer.Option(help="Weight of the prior in borda, 0 to 1.", rich_help_panel=NEURONS),
    ] = None,
    tau: Annotated[
        float | None,
        typer.Option(help="Weight of the prior in shrinkage, tokens.", rich_help_panel=NEURONS),
    ] = None,
    sensitivity: Annotated[
        float | None,
        typer.Option(
            help="Power of F / G in shrinkage: 0, 0.25, 0.5 or 1.", rich_help_panel=NEURONS
        ),
    ] = None,
    dense_layers: Annotated[
        str | None,
        typer.Option(
            metavar="LAYERS|none",
            help="Layers that keep all neurons, such as 0,29.",
            rich_help_panel=NEURONS,
        ),
    ] = None,
    refresh: Annotated[
        str | None,
        typer.Option(
            parser=refresh_tokens,
            metavar="TOKENS|auto|off",
            help="Choose again after every so many decoded tokens; auto: until it changes little.",
            rich_help_panel=NEURONS,
        ),
    ] = None,
    dense_start: Annotated[
        int | None,
        typer.Option(help="First tokens of an answer that are dense.", rich_help_panel=NEURONS),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[
        float, typer.Option(help="0 is greedy.", rich_help_panel=SAMPLING)
    ] = 0.0,
    top_k: Annotated[int, typer.Option(help="0 is off.", rich_help_panel=SAMPLING)] = 0,
    top_p: Annotated[float, typer.Option(help="1 is off.", rich_help_panel=SAMPLING)] = 1.0,
    min_p: Annotated[float, typer.Option(help="0 is off.", rich_help_panel=SAMPLING)] = 0.0,
    repetition_penalty: Annotated[
        float, typer.Option(help="1 is off.", rich_help_panel=SAMPLING)
    ] = 1.0,
    seed: Annotated[
        int | None, typer.Option(help="Repeats the same samples.", rich_help_panel=SAMPLING)
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    system: Annotated[str | None, typer.Option(help="System message of the chat.")] = None,
    trusted_key: TrustedKeys = None,
    raw: Annotated[bool, typer.Option("--raw", help="Continue PROMPT; no chat template.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Show times and speeds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Generate text, or chat when no PROMPT is given (/reset starts anew, /exit ends)."""
    from glass_export.runtime import SamplingParams, Session

    settings: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "profile": profile,
        "density": density,
        "mode": mode,
        "fusion": fusion,
        "local": local,
        "local_tokens": local_tokens,
        "prior": prior,
        "lam": lam,
        "tau": tau,
        "sensitivity": sensitivity,
        "dense_layers": None if dense_layers is None else layer_numbers(dense_layers),
        "refresh": refresh,
        "dense_start": dense_start,
        "sampling": SamplingParams(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
        ),
    }
    keys = trusted_keys(trusted_key)
    with Session.open(directory, threads=threads, trusted_keys=keys) as session:
        talk = _Talk(session, settings, system=system, raw=raw, stats=stats, as_json=as_json)
        if prompt is not None:
            talk.answer(prompt)
        else:
            talk.chat()


class _Talk:
    """Prompts and answers of one session, shown as the options ask."""

    def __init__(
        self,
        session: Session,
        settings: dict[str, Any],
        *,
        system: str | None,
        raw: bool,
        stats: bool,
        as_json: bool,
    ) -> None:
        self._session, self._settings = session, settings
        self._templated = not raw and session.text.template is not None
        if system and not self._templated:
            reason = "--raw is given" if raw else "this artifact has no chat template"
            raise typer.BadParameter(f"--system needs a chat template; {reason}")
        self._opening: Messages = [{"role": "system", "content": system}] if system else []
        self._messages = list(self._opening)
        self._stats, self._as_json = stats, as_json

    def answer(self, prompt: str) -> None:
        """Generate one answer and show it."""
        request = [*self._messages, {"role": "user", "content": prompt}]
        result = self._session.generate(
            request if self._templated else prompt,
            stream=None if self._as_json else _write,
            **self._settings,
        )
        self._messages = [*request, {"role": "assistant", "content": result.text}]
        typer.echo(json.dumps(plain(result)) if self._as_json else "")
        if self._stats and not self._as_json:
            console.stderr.print(stats_table({"": result}))

    def chat(self) -> None:
        """Answer what the user types until /exit or the end of the input."""
        from glass_export.errors import GenerationError

        while True:
            try:
                typed = console.stderr.input("[bold green]> ").strip()
            except EOFError:
                return
            if typed == "/exit":
                return
            if typed == "/reset":
                self._messages = list(self._opening)
            elif typed:
                try:
                    self.answer(typed)
                except GenerationError as problem:
                    console.error(str(problem))
                except KeyboardInterrupt:  # ends the answer; at the prompt it ends the chat
                    typer.echo("")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def plain(result: Generation) -> dict[str, Any]:
    """An answer as JSON data."""
    return dataclasses.asdict(result)


def stats_table(answers: dict[str, Generation]) -> Table:
    """All figures, one column for each answer."""
    names = [field.name for field in dataclasses.fields(next(iter(answers.values())).stats)]
    table = Table("", *answers, box=None, pad_edge=False)
    for name in names:
        values = [getattr(answer.stats, name) for answer in answers.values()]
        shown = [f"{v:,.2f}" if isinstance(v, float) else str(v) for v in values]
        table.add_row(name.replace("_", " "), *shown)
    return table
