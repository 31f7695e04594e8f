"""A conversation by the Session, as the programs over the C interface and over Java print it."""

from __future__ import annotations

from pathlib import Path

from glass_export.runtime import Session

QUESTIONS = ["the quick brown fox", "and the lazy dog?", "é😀 你好"]


def greedy_lines(artifact: Path, tokens: int, density: float) -> list[str]:
    """For each question, with the turns before it: reused tokens, a colon, and the answer's ids."""
    lines, messages = [], []
    with Session.open(artifact) as session:
        for question in QUESTIONS:
            messages.append({"role": "user", "content": question})
            answer = session.generate(messages, max_new_tokens=tokens, density=density)
            ids = " ".join(map(str, answer.token_ids))
            lines.append(f"{answer.stats.reused_tokens}: {ids}".rstrip())
            messages.append({"role": "assistant", "content": answer.text})
    return lines
