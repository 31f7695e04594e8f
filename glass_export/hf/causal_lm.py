"""An artifact behind the interface of transformers' causal language models.

transformers' own loop chooses the tokens, so sampling, logits processors, stopping criteria and
streamers are its own; the artifact's driver computes the logits.

Legend: S tokens of a sequence, V vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, cast

import torch
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from glass_export.artifact import Artifact
from glass_export.errors import GenerationError
from glass_export.hf.request import check_batch, check_request, unpadded
from glass_export.manifest import ModelInfo
from glass_export.runtime import Session
from glass_export.runtime.request import SelectionArgs, checked_selection
from glass_export.schema import suggest

_SELECTION = tuple(SelectionArgs.__annotations__)


class GlassConfig(PreTrainedConfig):
    """Sizes of an artifact's model, under transformers' names."""

    model_type = "glass"


class ArtifactCache:
    """Stands for the key/value cache, which stays in the engine; transformers hands it around.

    ``length``: tokens that the cache held after the call that returned this object.
    """

    def __init__(self, length: int) -> None:
        self.length = length

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens in the cache; all layers hold the same."""
        return self.length


class _ContextFull(StoppingCriteria):
    """Ends an answer whose last token the context has no place for, as Session.generate does."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __call__(
        self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any
    ) -> torch.BoolTensor:
        full = len(self._session.tokens) >= self._session.backend.max_length
        ended = torch.full((input_ids.shape[0],), full, device=input_ids.device)
        return cast(torch.BoolTensor, ended)


class GlassForCausalLM(PreTrainedModel, GenerationMixin):
    """A causal language model that an artifact computes: dense prefill, sparse decode.

    Greedy search and sampling of one sequence at a time, on the CPU. A prompt that begins like what
    the cache holds is computed only from where it differs, see :class:`.Driver`. Neurons are chosen
    from the user's words when the prompt was made with the artifact's chat template, otherwise from
    all tokens that are not special, see :meth:`.TextCodec.score_mask`.

    Attributes:
        session: The opened artifact.
        selection: How neurons are chosen where ``generate`` does not say; see
            :class:`.SelectionArgs`. May be replaced.
    """

    config_class = GlassConfig
    main_input_name = "input_ids"

    def __init__(self, config: GlassConfig, session: Session) -> None:
        """Wrap an opened session; :meth:`from_pretrained` opens an artifact."""
        super().__init__(config)
        self.session = session
        self.selection: SelectionArgs = {}
        self._held: ArtifactCache | None = None
        ends = config.eos_token_id
        first = ends[0] if isinstance(ends, list) else ends
        self.generation_config = GenerationConfig(
            bos_token_id=config.bos_token_id, eos_token_id=ends, pad_token_id=first
        )

    @classmethod
    def from_pretrained(  # type: ignore[override]  # an artifact is not a checkpoint
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        threads: int | None = None,
        max_length: int | None = None,
        profile: str | None = None,
        **selection: Any,
    ) -> Self:
        """Open an artifact directory.

        Args:
            pretrained_model_name_or_path: The directory.
            threads: Of the engine; None lets it decide.
            max_length: Context in tokens, at most the artifact's; None takes that.
            profile: One of the artifact's profiles.
            **selection: density, refresh and so on, as in :meth:`.Session.generate`.

        Raises:
            ArtifactError: the artifact is damaged, or its target has no engine here.
            GenerationError: a selection that is not usable, or another argument.
        """
        for name in selection:
            if name not in _SELECTION:
                known = suggest(name, [*_SELECTION, "threads", "max_length", "profile"])
                raise GenerationError(f"from_pretrained: got {name!r}; {known}")
        session = Session.open(
            pretrained_model_name_or_path, threads=threads, max_length=max_length
        )
        info = Artifact.open(pretrained_model_name_or_path).manifest.model
        model = cls(_config(info, session.backend.max_length), session)
        model.selection = model._wanted(profile, cast(SelectionArgs, selection))
        return model

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _SELECTION:  # it would be kept, and have no effect
            raise AttributeError(f"set selection = {{{name!r}: ...}}, or pass {name} to generate()")
        super().__setattr__(name, value)

    @property
    def device(self) -> torch.device:
        """Where logits are: an artifact is computed on the CPU."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Type of the logits."""
        return torch.float32

    def close(self) -> None:
        """Free the engine's memory."""
        self.session.close()

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: an artifact is compiled.

        Raises:
            GenerationError: always.
        """
        raise GenerationError("save_pretrained: an artifact is compiled; copy its directory")

    def generate(  # type: ignore[override]  # fewer positional arguments
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        stopping_criteria: StoppingCriteriaList | None = None,
        profile: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Generate as transformers' ``generate`` does, for one sequence [1,S].

        Args:
            inputs: Token ids of the whole conversation, with padding at the left at most.
            generation_config: As in transformers.
            stopping_criteria: As in transformers. The answer also ends when the context is full.
            profile: One of the artifact's profiles.
            **kwargs: Those of transformers, and density, refresh and so on, as in
                :meth:`.Session.generate`.

        Raises:
            GenerationError: a batch, beam search or something else that an artifact cannot do; or
                a prompt or a selection that is not usable.
        """
        given = {name: kwargs.pop(name) for name in _SELECTION if name in kwargs}
        given = {name: value for name, value in given.items() if value is not None}
        check_request(self.generation_config, generation_config, kwargs)
        ids = inputs if inputs is not None else kwargs.get("input_ids")
        if ids is not None:
            check_batch(ids)
        own = self.session.selection_args(profile, cast(SelectionArgs, given))
        wanted = self._wanted(None, cast(SelectionArgs, {**self.selection, **own}))
        criteria = [*(stopping_criteria or ()), _ContextFull(self.session)]
        return cast(Any, super()).generate(
            inputs,
            generation_config,
            stopping_criteria=StoppingCriteriaList(criteria),
            selection=wanted,
            **kwargs,
        )

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: ArtifactCache | None = None,
        token_type_ids: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 1,
        return_dict: bool = True,
        selection: SelectionArgs | None = None,
    ) -> CausalLMOutputWithPast:
        """Logits [1,1,V] of the token after the last one.

        Args:
            input_ids: Without a cache a prompt [1,S], which is computed densely and chooses the
                neurons; with one, the next token [1,1], which is computed with these.
            attention_mask: 0 for padding at the left, of a prompt.
            past_key_values: What the previous call returned.
            token_type_ids: Not used; some tokenizers give them.
            use_cache: Not used; there always is a cache.
            logits_to_keep: 1; those of other tokens are not computed.
            return_dict: True; a tuple cannot be had.
            selection: In place of the attribute ``selection``.

        Raises:
            GenerationError: what is asked for is not what an artifact computes.
        """
        check_batch(input_ids)
        if past_key_values is None:
            if logits_to_keep != 1:
                raise GenerationError(
                    f"forward: got logits_to_keep={logits_to_keep}, expected 1: of a prompt, the "
                    "logits of its last token alone are computed"
                )
            tokens = unpadded(input_ids, attention_mask)
            logits = self._read_prompt(tokens, self.selection if selection is None else selection)
        else:
            self._check_next(input_ids, past_key_values)
            logits = self.session.decode(int(input_ids[0, 0]))
        self._held = ArtifactCache(len(self.session.tokens))
        return CausalLMOutputWithPast(
            logits=torch.tensor(logits, device=input_ids.device)[None, None],
            past_key_values=cast(Any, self._held),
        )

    def _read_prompt(self, tokens: list[int], selection: SelectionArgs) -> Any:
        """Run a prompt and choose the neurons; logits [V] of its last token."""
        session = self.session
        chosen = checked_selection(session.defaults, session.backend.dims, **selection)
        mask = session.text.score_mask(tokens, chosen.local_tokens)
        prompted = session.prefill(tokens, mask)
        session.select(**selection)
        return prompted.logits

    def _check_next(self, input_ids: torch.Tensor, cache: ArtifactCache) -> None:
        if input_ids.shape[1] != 1:
            raise GenerationError(
                f"forward: got {input_ids.shape[1]} tokens after a cache, expected 1; pass a "
                "longer prompt as a whole, without past_key_values"
            )
        if cache is not self._held or cache.length != len(self.session.tokens):
            raise GenerationError(
                "forward: past_key_values is not of the latest call; an artifact holds one "
                "conversation: pass the whole of it as a prompt"
            )

    def _wanted(self, profile: str | None, selection: SelectionArgs) -> SelectionArgs:
        """A selection with a profile's values, checked."""
        wanted = self.session.selection_args(profile, selection)
        checked_selection(self.session.defaults, self.session.backend.dims, **wanted)
        return wanted

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """Keeps transformers from making a cache of its own; forward returns one."""
        return False


def _config(info: ModelInfo, context: int) -> GlassConfig:
    dims = info.dims
    make: Any = GlassConfig  # its fields are not declared
    config: GlassConfig = make(
        vocab_size=dims.vocab_size,
        hidden_size=dims.d_model,
        intermediate_size=dims.d_ff,
        num_hidden_layers=dims.layers,
        num_attention_heads=dims.heads,
        num_key_value_heads=dims.kv_heads,
        head_dim=dims.head_dim,
        max_position_embeddings=context,
        bos_token_id=info.bos_token_id,
        eos_token_id=list(info.eos_token_ids) or None,
        name_or_path=info.name,
    )
    return config


# A pipeline asks whether the class is one that transformers knows for the task.
AutoModelForCausalLM.register(GlassConfig, GlassForCausalLM)
