"""Text in, text out: opens an artifact and generates answers from it.

Imports neither torch, transformers nor onnx.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Unpack, cast

from glass_export.artifact import Artifact
from glass_export.errors import GenerationError
from glass_export.runtime.base import Backend, FloatArray
from glass_export.runtime.chat_template import Message
from glass_export.runtime.detokenizer import TextStream
from glass_export.runtime.driver import Driver, PrefillOutput
from glass_export.runtime.engines import open_backend
from glass_export.runtime.request import (
    SelectionArgs,
    checked_count,
    checked_selection,
    checked_stop,
)
from glass_export.runtime.sampler import Sampler, SamplingParams
from glass_export.runtime.stats import GenerationStats, Stopwatch, peak_rss_mb, rate
from glass_export.runtime.text import TextCodec
from glass_export.schema import choices
from glass_export.selection import Profile, SelectionRecipe
from glass_export.spec import Statistic, kept_neurons

FinishReason = Literal["stop", "length", "context"]
Prompt = str | Sequence[Message]

_GREEDY = SamplingParams()


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """An answer. ``token_ids`` are the generated ones, without the end-of-text token.

    ``finish_reason``: ``stop`` (end of text or a stop string), ``length`` (max_new_tokens) or
    ``context`` (the context is full).
    """

    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    finish_reason: FinishReason
    stats: GenerationStats


class Session(Driver):
    """An opened artifact. See :class:`Driver` for what is kept between calls."""

    def __init__(
        self,
        backend: Backend,
        text: TextCodec,
        *,
        priors: Mapping[Statistic, FloatArray],
        defaults: SelectionRecipe,
        eos_token_ids: Iterable[int],
        profiles: Mapping[str, Profile] | None = None,
    ) -> None:
        """Drive ``backend``; :meth:`open` does it for an artifact."""
        super().__init__(backend, priors, defaults)
        self.text = text
        self.profiles = dict(profiles or {})
        self._eos = frozenset(eos_token_ids)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        threads: int | None = None,
        max_length: int | None = None,
        trusted_keys: Sequence[str] | None = None,
    ) -> Session:
        """Open an artifact directory.

        Args:
            path: The directory.
            threads: Of the engine; None lets it decide.
            max_length: Context in tokens, at most the artifact's; None takes that.
            trusted_keys: Public keys of which one must have signed it, see :meth:`.Artifact.open`.

        Raises:
            ArtifactError: the artifact is damaged, not signed as asked, or its target has no
                engine here.
            SigningError: a trusted key is not one.
        """
        artifact = Artifact.open(Path(path), trusted_keys=trusted_keys)
        text = TextCodec.of_artifact(artifact)
        priors = artifact.prior()
        return cls(
            open_backend(artifact, threads=threads, max_length=max_length),
            text,
            priors=priors,
            defaults=artifact.manifest.selection,
            eos_token_ids=artifact.manifest.model.eos_token_ids,
            profiles=artifact.manifest.profiles,
        )

    def generate(
        self,
        prompt: Prompt,
        *,
        max_new_tokens: int = 128,
        sampling: SamplingParams = _GREEDY,
        stream: Callable[[str], None] | None = None,
        stop: str | Sequence[str] = (),
        reset: bool | None = None,
        profile: str | None = None,
        **selection: Unpack[SelectionArgs],
    ) -> Generation:
        """Answer a prompt. The request is checked before any work is done.

        Args:
            prompt: A string to continue, or the messages of a conversation so far.
            max_new_tokens: Most tokens of the answer.
            sampling: How tokens are chosen; greedy by default.
            stream: Called with each piece of text as it becomes certain.
            stop: Strings that end the answer; they are not part of its text.
            reset: True forgets the conversation first; by default what fits is reused.
            profile: One of the artifact's profiles, whose density, refresh and dense_start stand
                for the artifact's defaults.
            **selection: density, mode, fusion, local, local_tokens, prior, lam, tau, sensitivity,
                dense_layers, refresh and dense_start, see :class:`.SelectionRecipe`; what is left
                out or None is the artifact's default. Density 1.0 is the dense model; mode ``auto``
                is the artifact's own rule, and other modes replace all of it.

        Raises:
            GenerationError: the request is not usable, or the model gave NaN.
        """
        watch = Stopwatch()
        wanted = self.selection_args(profile, selection)
        chosen = checked_selection(self.defaults, self.backend.dims, **wanted)
        limit, stops = checked_count("max_new_tokens", max_new_tokens), checked_stop(stop)
        tokens, mask = self.text.encode(prompt, chosen.local_tokens)
        if reset:
            self.reset()

        with watch.phase("prefill"):
            prompted = self.prefill(tokens, mask)
        self._select(chosen, watch)
        output = TextStream(self.text.detokenizer(), stops, stream)
        answer, reason = self._answer(prompted.logits, Sampler(sampling), output, limit, watch)

        return Generation(
            text=output.text,
            token_ids=tuple(answer),
            prompt_tokens=len(tokens),
            finish_reason=reason,
            stats=self._stats(watch, chosen, len(tokens), prompted, len(answer)),
        )

    def selection_args(self, profile: str | None, selection: SelectionArgs) -> SelectionArgs:
        """What a caller wants, and the values of a profile where the caller leaves them open.

        Raises:
            GenerationError: the artifact has no such profile.
        """
        if profile is None:
            return selection
        if profile not in self.profiles:
            names = [*self.profiles]
            hint = "it has none, `glass-export tune` writes one"
            known = choices(str(profile), names) if names else hint
            raise GenerationError(f"profile: got {profile!r}, not in this artifact; {known}")
        found = self.profiles[profile]
        given = {name: value for name, value in selection.items() if value is not None}
        own = {name: getattr(found, name) for name in ("density", "refresh", "dense_start")}
        return cast(SelectionArgs, {**own, **given})

    def _answer(
        self, logits: FloatArray, sampler: Sampler, output: TextStream, limit: int, watch: Stopwatch
    ) -> tuple[list[int], FinishReason]:
        """Sample and decode until the answer ends."""
        answer: list[int] = []
        while True:
            token = sampler.sample(logits, self._cache.tokens)
            watch.token()
            if token in self._eos:
                return answer, self._end(output, "stop")
            answer.append(token)
            if output.write(token):
                return answer, "stop"
            if len(answer) == limit:
                return answer, self._end(output, "length")
            if len(self._cache) == self.backend.max_length:
                return answer, self._end(output, "context")
            logits = self.decode(token)

    @staticmethod
    def _end(output: TextStream, reason: FinishReason) -> FinishReason:
        return "stop" if output.close() else reason

    def _stats(
        self,
        watch: Stopwatch,
        selection: SelectionRecipe,
        prompt_tokens: int,
        prompted: PrefillOutput,
        new_tokens: int,
    ) -> GenerationStats:
        computed = prompt_tokens - prompted.reused_tokens
        return GenerationStats(
            prompt_tokens=prompt_tokens,
            reused_tokens=prompted.reused_tokens,
            new_tokens=new_tokens,
            ttft_ms=watch.ttft_ms,
            prefill_tps=rate(computed, watch.ms("prefill")),
            decode_tps=watch.decode_tps,
            fusion_ms=watch.ms("fusion"),
            select_ms=watch.ms("select"),
            refreshes=watch.count("refresh"),
            refresh_ms=watch.ms("refresh"),
            density=selection.density,
            kept_neurons=kept_neurons(selection.density, self.backend.dims.d_ff),
            peak_rss_mb=peak_rss_mb(),
        )
