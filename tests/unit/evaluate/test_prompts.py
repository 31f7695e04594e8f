"""The built-in prompt sets, and prompt files: what is read and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from importlib.resources import files
from itertools import combinations
from pathlib import Path

import pytest

from glass_export.errors import EvaluationError
from glass_export.evaluate.prompts import PROMPT_SETS, EvalPrompt, digest, load_prompts

DOMAINS = ("chat", "summary", "code", "reasoning", "lists", "languages")
EACH = 12
# What the prompts of a language have and those of the other languages have not.
LANGUAGES = {
    "Chinese": r"^[^\u3040-\u30ff]*[\u4e00-\u9fff][^\u3040-\u30ff]*$",  # Han without kana
    "Dutch": r"\b(van|een)\b",
    "French": r"\b(avec|sont)\b",
    "German": r"\b(ich|mir)\b",
    "Hindi": r"[\u0900-\u097f]",
    "Italian": r"\b(una|alle)\b",
    "Japanese": r"[\u3040-\u30ff]",
    "Polish": r"[żś]",
    "Portuguese": r"\b(são|em)\b",
    "Russian": r"[\u0400-\u04ff]",
    "Spanish": r"\b(el|los)\b",
    "Turkish": r"[ğş]",
}
PROMPTS = (
    EvalPrompt("Why is grass green?", "chat"),
    EvalPrompt("为什么草是绿色的？\n一句话。", "languages"),
    EvalPrompt('print("\u2028")', "other"),
)


def words(prompt: EvalPrompt) -> list[str]:
    """Words in lower case; of Chinese and Japanese, which have no spaces, the characters."""
    return re.findall(r"[^\W\u3040-\u9fff]+|[\u3040-\u9fff]", prompt.text.lower())


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def refusal(name_or_path: str) -> str:
    with pytest.raises(EvaluationError) as caught:
        load_prompts(name_or_path)
    return str(caught.value)


@pytest.mark.parametrize("name", PROMPT_SETS)
def test_a_set_has_as_many_prompts_of_each_domain(name: str) -> None:
    prompts = load_prompts(name)
    assert Counter(p.domain for p in prompts) == dict.fromkeys(DOMAINS, EACH)


@pytest.mark.parametrize("name", PROMPT_SETS)
def test_the_first_prompts_of_a_set_are_balanced(name: str) -> None:
    domains = [p.domain for p in load_prompts(name)]
    assert domains == list(DOMAINS) * EACH


@pytest.mark.parametrize("name", PROMPT_SETS)
def test_prompts_are_as_long_as_users_type_them(name: str) -> None:
    for prompt in load_prompts(name):
        assert prompt.text == prompt.text.strip()
        if prompt.domain == "summary":
            instruction, passage = sorted(prompt.text.split("\n\n"), key=len)
            assert 60 <= len(passage.split()) <= 120, prompt.text
            assert len(instruction.split()) <= 20, prompt.text
        elif re.search(r"[\u3040-\u9fff]", prompt.text):
            assert 15 <= len(prompt.text) <= 80, prompt.text
        else:
            assert 6 <= len(prompt.text.split()) <= 40, prompt.text


@pytest.mark.parametrize("name", PROMPT_SETS)
def test_other_languages_have_a_prompt_each(name: str) -> None:
    texts = [p.text for p in load_prompts(name) if p.domain == "languages"]
    found = [[text for text in texts if re.search(mark, text)] for mark in LANGUAGES.values()]
    assert [len(of_one) for of_one in found] == [1] * len(LANGUAGES)
    assert {text for (text,) in found} == set(texts)


def test_no_prompt_resembles_another_in_either_set() -> None:
    bags = [(p.text, frozenset(words(p))) for name in PROMPT_SETS for p in load_prompts(name)]
    assert len({text for text, _ in bags}) == 2 * EACH * len(DOMAINS)
    for (one, a), (other, b) in combinations(bags, 2):
        assert len(a & b) / len(a | b) < 0.35, f"{one}\n{other}"


@pytest.mark.parametrize("name", PROMPT_SETS)
def test_built_in_sets_are_stored_as_plain_utf8(name: str) -> None:
    stored = (files("glass_export.evaluate") / "prompt_sets" / f"{name}.jsonl").read_bytes()
    lines = stored.decode("utf-8").splitlines(keepends=True)
    assert len(lines) == EACH * len(DOMAINS)
    for line in lines:
        assert line == json.dumps(json.loads(line), ensure_ascii=False) + "\n"


def test_a_set_comes_before_a_file_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "tuning", "another prompt")
    monkeypatch.chdir(tmp_path)
    assert len(load_prompts("tuning")) == EACH * len(DOMAINS)


@pytest.mark.parametrize("ascii_only", [False, True])
def test_jsonl_round_trip(tmp_path: Path, ascii_only: bool) -> None:
    entries = [{"prompt": p.text, "domain": p.domain} for p in PROMPTS]
    text = "\n".join(json.dumps(entry, ensure_ascii=ascii_only) for entry in entries)
    assert load_prompts(write(tmp_path / "p.jsonl", text)) == PROMPTS


def test_json_round_trip_and_strings_of_no_domain(tmp_path: Path) -> None:
    entries = [{"prompt": p.text, "domain": p.domain} for p in PROMPTS]
    path = write(tmp_path / "p.json", json.dumps([*entries, "Hello"], indent=1))
    assert load_prompts(path) == (*PROMPTS, EvalPrompt("Hello", "other"))


def test_txt_round_trip(tmp_path: Path) -> None:
    lines = ["Why is grass green?", "为什么草是绿色的？"]
    path = write(tmp_path / "p.TXT", "\n".join(lines))
    assert load_prompts(path) == tuple(EvalPrompt(line, "other") for line in lines)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.jsonl", '\ufeff{"prompt": "a"}\r\n\r\n \t\n{"prompt": "b"}\r\n'),
        ("p.txt", "\ufeffa\r\n\r\n \t\n  b  \r\n"),
        ("p.json", '\ufeff["a",\r\n\r\n"b"]\r\n'),
    ],
)
def test_byte_order_marks_line_ends_and_blank_lines(
    tmp_path: Path, name: str, content: str
) -> None:
    read = load_prompts(write(tmp_path / name, content))
    assert read == (EvalPrompt("a", "other"), EvalPrompt("b", "other"))


def test_a_path_may_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "p.txt", "a")
    assert load_prompts("~/p.txt") == (EvalPrompt("a", "other"),)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"promt": "a"}', "line 2: unknown key 'promt'; did you mean 'prompt'?"),
        ('{"prompt": "a", "x": 1}', "line 2: unknown key 'x'; known: domain, prompt"),
        ('{"domain": "chat"}', "line 2: prompt: missing, expected a value"),
        ('{"prompt": 5}', "line 2: prompt: got 5, expected str"),
        ('{"prompt": "a", "domain": null}', "line 2: domain: got None, expected str"),
        ('{"prompt": " \\n"}', "line 2: prompt: got ' \\n', expected a text"),
        ('{"prompt": "a", "domain": ""}', "line 2: domain: got '', expected a text"),
        ('{"prompt": "\\ud83d"}', "line 2: prompt: got half a surrogate pair"),
        ('"a"', 'line 2: got str, expected {"prompt": "...", "domain": "..."}'),
        ("[]", "line 2: got list, expected"),
        ('{"prompt": "a"', "line 2: not valid JSON: Expecting ',' delimiter at column 15"),
        ("[" * 100_000, "line 2: not valid JSON: "),
        ("9" * 5000, "line 2: not valid JSON: Exceeds the limit"),
    ],
)
def test_refused_lines_of_jsonl(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "p.jsonl", '{"prompt": "a"}\n' + line + '\n{"prompt": "b"}\n')
    assert f"{path}, {message}" in refusal(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "a"}', "p.json: got dict, expected a list of strings"),
        ('["a", 5]', "p.json, item 2: got int, expected"),
        ('["a", ""]', "p.json, item 2: prompt: got '', expected a text"),
        ('[{"prompt": "a", "domian": "b"}]', "item 1: unknown key 'domian'; did you mean 'domain'"),
        ('["a",\n"b"', "p.json, line 2: not valid JSON: Expecting ',' delimiter at column 4"),
        ("", "p.json, line 1: not valid JSON: Expecting value"),
        ("[]", "p.json: got no prompt, expected at least one"),
    ],
)
def test_refused_json(tmp_path: Path, content: str, message: str) -> None:
    assert message in refusal(write(tmp_path / "p.json", content))


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
@pytest.mark.parametrize("name", ["p.txt", "p.jsonl"])
def test_refused_when_empty(tmp_path: Path, name: str, content: str) -> None:
    path = write(tmp_path / name, content)
    assert refusal(path).startswith(f"{path}: got no prompt, expected at least one")


@pytest.mark.parametrize("name", ["p.txt", "p.jsonl", "p.json"])
def test_refused_when_not_utf8(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "\n\nGrüße".encode("latin-1"))
    assert refusal(path).startswith(f"{path}, line 3: got byte 0xfc, expected UTF-8")


def test_refused_when_there_is_no_such_file(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    assert refusal(str(path)) == f"{path}: no such file, expected a readable file of prompts"
    path.mkdir()
    assert refusal(str(path)).startswith(f"{path}: Is a directory, expected")


def test_refused_when_neither_a_set_nor_a_known_type(tmp_path: Path) -> None:
    kinds = "a file ending in .jsonl, .json, .txt"
    unknown = f"prompts 'tunning': not {kinds}, and no built-in set; did you mean 'tuning'?"
    assert refusal("tunning") == unknown
    assert refusal("xyz").endswith("no built-in set; known: reporting, tuning")
    path = write(tmp_path / "p.csv", "a")
    assert refusal(path) == f"prompts {path!r}: got a file ending in .csv, expected {kinds}"
    assert "got a file ending in nothing" in refusal(write(tmp_path / "p", "a"))
    assert refusal(str(tmp_path)).endswith(f"got a folder, expected {kinds}")


def test_digest_depends_on_content_alone(tmp_path: Path) -> None:
    as_txt = load_prompts(write(tmp_path / "p.txt", "a\nb"))
    as_json = load_prompts(write(tmp_path / "p.json", '["a", "b"]'))
    assert digest(as_txt) == digest(list(as_json))
    changed = [
        as_txt,
        as_txt[::-1],
        as_txt[:1],
        (as_txt[0], EvalPrompt("b", "chat")),
        (as_txt[0], EvalPrompt("b ", "other")),
        *map(load_prompts, PROMPT_SETS),
    ]
    assert len({digest(prompts) for prompts in changed}) == len(changed)


def test_digest_is_the_same_on_every_machine() -> None:
    expected = "67a9cbd74c14077400e9fd300c6999af5a10fb76b3e8e99bf8bc74730524bcc2"
    assert digest(PROMPTS) == expected


def test_prompts_need_neither_torch_nor_transformers() -> None:
    program = (
        "import sys; from glass_export.evaluate.prompts import load_prompts;"
        "load_prompts('tuning');"
        "print({m.partition('.')[0] for m in sys.modules} & {'torch', 'transformers', 'onnx'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
