"""From text to tokens: the artifact's tokenizer and chat template."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from glass_export import limits, strict_json
from glass_export.artifact import Artifact
from glass_export.artifact.reader import read_limited
from glass_export.errors import ArtifactCode, ArtifactError, GenerationError
from glass_export.runtime.chat_template import ChatTemplate, Message, Span
from glass_export.runtime.detokenizer import Detokenizer
from glass_export.runtime.tokenizer_rules import tokenizer_problem
from glass_export.selection import LocalTokens

Mask = np.ndarray[tuple[int], np.dtype[np.float32]]


class TextCodec:
    """Turns prompts into token ids and a mask of the tokens that count in the local scores."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        template: ChatTemplate | None = None,
        bos_token: str | None = None,
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.template = template
        self._bos_id = tokenizer.token_to_id(bos_token) if bos_token else None
        added = tokenizer.get_added_tokens_decoder()
        self._special = {index for index, token in added.items() if token.special}

    @classmethod
    def open(cls, tokenizer: Path, config: Path | None, template: Path | None) -> TextCodec:
        """Read tokenizer.json, tokenizer_config.json and chat_template.jinja.

        A missing chat_template.jinja is looked for in the config; without either, the artifact
        serves plain completion only.

        Raises:
            ArtifactError: a file is not what its name says.
        """
        loaded = _load_tokenizer(tokenizer)
        settings = _read_config(config) if config else {}
        names = _special_names(settings)
        source = _read_template(template) if template else _named_template(settings)
        compiled = ChatTemplate(source, names) if source else None
        return cls(loaded, template=compiled, bos_token=names.get("bos_token"))

    @classmethod
    def of_artifact(cls, artifact: Artifact) -> TextCodec:
        """The tokenizer and chat template of an artifact. Raises ArtifactError as :meth:`open`."""
        held = {entry.path for entry in artifact.manifest.files}
        config, template = (
            artifact.file(name) if name in held else None
            for name in ("tokenizer_config.json", "chat_template.jinja")
        )
        return cls.open(artifact.file("tokenizer.json"), config, template)

    def encode(
        self, prompt: str | Sequence[Message], local_tokens: LocalTokens
    ) -> tuple[list[int], Mask]:
        """Token ids and mask of a plain string or of messages.

        Raises:
            GenerationError: see :meth:`encode_chat`; or ``local_tokens`` is unknown.
        """
        if local_tokens not in ("user", "all"):
            raise GenerationError(f"local_tokens: got {local_tokens!r}, expected 'user' or 'all'")
        if not prompt:
            raise GenerationError("prompt: it is empty; pass some text or at least one message")
        encoded = self.encode_text(prompt) if isinstance(prompt, str) else self.encode_chat(prompt)
        ids, mask = encoded
        return ids, mask if local_tokens == "user" else np.ones_like(mask)

    def encode_text(self, text: str) -> tuple[list[int], Mask]:
        """Token ids of a plain prompt, special tokens added as the tokenizer says, and its mask.

        The mask is 1 for every token that is not special.
        """
        encoding = self.tokenizer.encode(text, add_special_tokens=True)
        ids = encoding.ids
        doubled = self._bos_id is not None and ids[:2] == [self._bos_id] * 2
        ids = ids[1:] if doubled else ids
        return ids, self._ordinary(ids)

    def encode_chat(self, messages: Sequence[Message]) -> tuple[list[int], Mask]:
        """Token ids of a conversation up to the assistant's turn, and the mask of the user's words.

        The template writes all special tokens itself, so none is added. The mask is 1 for tokens of
        the user's contents; for every token that is not special where those cannot be found.

        Raises:
            GenerationError: the artifact has no chat template, or the messages do not fit it.
        """
        if self.template is None:
            raise GenerationError(
                "messages: the artifact has no chat template; pass the prompt as a plain string"
            )
        text, spans = self.template.render_spans(messages)
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        mask = self._ordinary(encoding.ids)
        inside = mask * _inside(encoding, spans)
        return encoding.ids, inside if inside.any() else mask

    def score_mask(self, ids: Sequence[int], local_tokens: LocalTokens) -> Mask:
        """The mask of a prompt of which only the tokens are known.

        It is that of :meth:`encode` for tokens that the chat template made: what stands between its
        words around a user's contents, when the decoded text gives the same tokens again. A system
        message that a template puts into the user's turn counts, too. Otherwise, and where no turn
        is found, it is 1 for every token that is not special.
        """
        if local_tokens == "all":
            return np.ones(len(ids), np.float32)
        mask = self._ordinary(ids)
        if self._frame is None:
            return mask
        text = str(self.tokenizer.decode(list(ids), skip_special_tokens=False))
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        if encoding.ids != list(ids):
            return mask
        inside = mask * _inside(encoding, _framed(text, *self._frame))
        return inside if inside.any() else mask

    @functools.cached_property
    def _frame(self) -> tuple[str, str] | None:
        return self.template.user_frame() if self.template else None

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the tokens, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def detokenizer(self) -> Detokenizer:
        """A fresh incremental decoder."""
        return Detokenizer(self.tokenizer)

    def _ordinary(self, ids: Sequence[int]) -> Mask:
        mask = np.array([index not in self._special for index in ids], np.float32)
        return mask if mask.any() else np.ones_like(mask)


def _inside(encoding: Encoding, spans: Sequence[Span]) -> Mask:
    """1 for tokens whose characters lie, at least in part, in a span."""
    offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
    hit = np.zeros(len(offsets), bool)
    for start, stop in spans:
        hit |= (offsets[:, 0] < stop) & (offsets[:, 1] > start)
    return hit.astype(np.float32)


def _framed(text: str, opening: str, closing: str) -> list[Span]:
    """Where text stands between ``opening`` and ``closing``."""
    spans: list[Span] = []
    at = text.find(opening)
    while at >= 0:
        start = at + len(opening)
        stop = text.find(closing, start)
        if stop < 0:
            break
        spans.append((start, stop))
        at = text.find(opening, stop)
    return spans


def _load_tokenizer(path: Path) -> Tokenizer:
    content = read_limited(path, limits.TOKENIZER_BYTES)
    try:
        loaded = Tokenizer.from_buffer(content)
        problem = tokenizer_problem(loaded)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as raised:  # bare Exception, and where the library panics not even that
        problem = str(raised)
    if problem:
        raise ArtifactError(f"{path}: not a tokenizer.json: {problem}", ArtifactCode.TOKENIZER)
    return loaded


def _read_template(path: Path) -> str:
    try:
        return read_limited(path, limits.TEMPLATE_BYTES).decode()
    except UnicodeDecodeError as problem:
        raise ArtifactError(
            f"{path}: not UTF-8 text ({problem})", ArtifactCode.TEMPLATE
        ) from problem


def _read_config(path: Path) -> dict[str, Any]:
    settings = strict_json.parse(read_limited(path, limits.CONFIG_BYTES), str(path), wide=True)
    if not isinstance(settings, dict):
        raise ArtifactError(
            f"{path}: got {type(settings).__name__}, expected a JSON object", ArtifactCode.JSON
        )
    return settings


def _special_names(settings: dict[str, Any]) -> dict[str, str]:
    """``bos_token``, ``eos_token`` and the like; each is a string or a serialised AddedToken."""
    found = {}
    for key, value in settings.items():
        content = value.get("content") if isinstance(value, dict) else value
        if key.endswith("_token") and isinstance(content, str):
            found[key] = content
    return found


def _named_template(settings: dict[str, Any]) -> str | None:
    """The chat template of a tokenizer_config.json: a string, or a list with one named default."""
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = (
            item.get("template")
            for item in template
            if isinstance(item, dict) and item.get("name") == "default"
        )
        template = next(named, None)
    return template if isinstance(template, str) else None
