"""Train the tokenizer that ships with Turnwire, from nothing but this machine's Python.

A byte-level BPE. Its corpus is the source text of the running interpreter's standard library,
seeded agent conversations (English, JSON, tool calls, file listings, test reports) and a little
of other scripts and symbols. Needs no network; the same interpreter gives the same file.

    python tools/train_tokenizer.py [--out FILE] [--size 12288]

Splitting before merging, in this order: English contractions; a run of letters with at most one
other sign before it (" word", "_name", "(call"); single digits, so that a small model can copy
numbers; a run of punctuation with an optional space before it and the line ends after it; line
ends with the blanks before them; other blanks, leaving the last one to the word that follows.
"""

# ruff: noqa: RUF001, SIM905  (other scripts are the point; word lists read best as one string)
from __future__ import annotations

import argparse
import json
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

__all__ = ["main"]

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    # Room for what a later template needs, without moving any id.
    *(f"<|reserved_{n}|>" for n in range(9)),
)
ROLES = ("user", "assistant", "system", "developer", "tool")

SPLIT = "|".join(
    (
        r"(?i:'(?:ll|re|ve|[dmst]))",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)

# The library's test suite is mostly numbers and odd bytes; the rest are bundled third parties.
SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3"}
)
MAX_FILE_CHARS = 120_000  # so that no single generated table decides the merges

SUBJECTS = (
    "the parser|the cache|a token|the queue|this file|the server|the client|each worker|the report"
    "|the test suite|our build|the function|the database|a request|the response|the user|the model"
    "|the configuration|every line|the directory|the command|the script|the agent|the pipeline"
).split("|")
VERBS = (
    "reads|writes|depends on|replaces|calls|checks|returns|updates|fixes|breaks|needs|starts|stops"
    "|waits for|sends|receives|creates|deletes|lists|opens|closes|runs|fails on|looks like|matches"
).split("|")
LINKS = "because|so that|when|if|although|after|before|and then|but|while|unless".split("|")
OPENERS = (
    "I will|Let me|Please|Could you|You should|We can|Here is what I found:|Next,|First,|Finally,"
    "|It looks like|The answer is that|To summarize,|Sorry,|Thanks,|Sure,|Note that|As expected,"
).split("|")
ASKS = (
    "Read {p} and tell me what it says.|List the files in {d}.|Fix the failing test in {p}."
    "|What does {n} do?|Write a short report about {d}.|Run the tests and summarize the result."
    "|Add a function called {n} to {p}.|Why does {n} return {i} instead of {j}?"
    "|How many files are in {d}?|What is the weather in {c} today?|Explain the error below."
).split("|")
CITIES = "Paris|London|Tokyo|Berlin|Nairobi|Lima|Oslo|Montréal|São Paulo|Zürich|Kyiv|北京".split(
    "|"
)
TOOLS = (
    "read_file|write_file|list_files|run_tests|search|apply_patch|shell|get_weather|send_email"
    "|create_report|fetch_url|query_database|update_plan|calculator|lookup_order"
).split("|")
FOLDERS = "src lib app core docs tests notes reports config scripts data".split()
STEMS = (
    "main utils server client parser lexer router token cache queue worker session store ledger "
    "invoice report index schema config events stream buffer metrics graph engine model"
).split()
SUFFIXES = ".py .md .txt .json .toml .yaml .ts .rs .go .sql .html .sh".split()
OTHER_SCRIPTS = (
    "où est la bibliothèque ? déjà terminé, voilà le résultat de l'exécution",
    "das Ergebnis wäre größer, weil die Prüfung über alle Dateien läuft; schön, danke",
    "el archivo no está vacío, ¿puedes añadir una función más? sí, mañana",
    "não há ficheiros nesta pasta; a função já está concluída, obrigado",
    "файл не найден, проверьте путь и запустите тесты ещё раз, спасибо",
    "το αρχείο δεν βρέθηκε, ελέγξτε τη διαδρομή και δοκιμάστε ξανά",
    "文件不存在，请检查路径后重试。测试已经通过，谢谢你的帮助。",
    "ファイルが見つかりません。テストはすべて成功しました。ありがとうございます。",
    "파일을 찾을 수 없습니다. 테스트가 모두 통과했습니다. 감사합니다.",
    "الملف غير موجود، يرجى التحقق من المسار والمحاولة مرة أخرى",
    "फ़ाइल नहीं मिली, कृपया पथ जाँचें और फिर से प्रयास करें",
    "✓ done ✗ failed → next ← back … “quoted” ‘single’ – dash — long • item × times ≤ ≥ ≠ °C €",
    "├── src\n│   ├── main\n│   └── utils\n└── tests\n─────┬─────\n",
    "🙂 😀 🎉 🚀 ✅ ❌ ⚠️ 🔥 👍 💡 📁 📝 🔧",
)


def sentence(rng: random.Random) -> str:
    """One English sentence, grammatical and empty."""
    core = f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(SUBJECTS)}"
    if rng.random() < 0.5:
        tail = f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(SUBJECTS)}"
        core = f"{core} {rng.choice(LINKS)} {tail}"
    if rng.random() < 0.5:
        return f"{rng.choice(OPENERS)} {core}."
    return f"{core[0].upper()}{core[1:]}."


def path(rng: random.Random) -> str:
    """A file path such as an agent meets."""
    folders = "/".join(rng.choices(FOLDERS, k=rng.randint(1, 2)))
    return f"{folders}/{rng.choice(STEMS)}{rng.choice(SUFFIXES)}"


def value(rng: random.Random, depth: int = 0) -> object:
    """A JSON value of the kinds that tool arguments are made of."""
    kind = rng.randint(0, 7 if depth < 2 else 5)
    match kind:
        case 0:
            return path(rng)
        case 1:
            return rng.randint(0, 5000)
        case 2:
            return rng.choice((True, False, None))
        case 3:
            return rng.choice(STEMS)
        case 4:
            return round(rng.random() * 100, 2)
        case 5:
            return sentence(rng)
        case 6:
            return [value(rng, depth + 1) for _ in range(rng.randint(0, 3))]
        case _:
            keys = ("path", "query", "content", "name", "id", "limit", "type", "value", "city")
            return {key: value(rng, depth + 1) for key in rng.sample(keys, rng.randint(0, 3))}


def schema(rng: random.Random) -> dict[str, object]:
    """A tool's parameter schema."""
    names = rng.sample(("path", "query", "content", "pattern", "limit", "city", "unit"), 2)
    kinds = ("string", "integer", "number", "boolean", "array", "object")
    properties = {name: {"type": rng.choice(kinds), "description": sentence(rng)} for name in names}
    return {
        "type": "object",
        "properties": properties,
        "required": names,
        "additionalProperties": False,
    }


def conversation(rng: random.Random) -> str:
    """An agent's conversation as plain text, with role lines, calls and their outputs."""
    name, folder = rng.choice(STEMS), rng.choice(FOLDERS)
    lines = [f"system\nYou are a helpful coding agent. {sentence(rng)}"]
    tool = rng.choice(TOOLS)
    offered = {"name": tool, "description": sentence(rng), "parameters": schema(rng)}
    lines.append(json.dumps(offered, separators=(", ", ": ") if rng.random() < 0.5 else (",", ":")))
    if rng.random() < 0.5:
        lines.append(f"developer\n{sentence(rng)}")
    ask = rng.choice(ASKS).format(
        p=path(rng),
        d=folder,
        n=name,
        i=rng.randint(0, 99),
        j=rng.randint(0, 99),
        c=rng.choice(CITIES),
    )
    lines.append(f"user\n{ask}")
    for ordinal in range(rng.randint(1, 3)):
        lines.append(f"assistant\n{sentence(rng)}")
        arguments = {"path": path(rng)} if rng.random() < 0.6 else {"query": value(rng)}
        separators = (",", ":") if rng.random() < 0.7 else (", ", ": ")
        written = json.dumps(arguments, separators=separators, ensure_ascii=False)
        lines.append(f'{{"name": "{tool}", "arguments": {written}}}')
        listing = "\n".join(path(rng) for _ in range(rng.randint(1, 6)))
        report = f"FAILED tests/test_{name}.py\n1 failed, {rng.randint(1, 40)} passed"
        result = rng.choice((listing, report, "ok", "error: no such file", sentence(rng)))
        lines.append(f"tool {tool} {ordinal}\n{result}" if ordinal else f"tool {tool}\n{result}")
    lines.append(f"assistant\n# Result\n\n- **{name}**: {sentence(rng)}\n- `{path(rng)}`\n\n```")
    return "\n".join(lines)


def library_files() -> list[Path]:
    """The standard library's source files, in a fixed order."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = (
        file
        for file in root.rglob("*.py")
        if not SKIPPED_FOLDERS.intersection(file.relative_to(root).parts)
    )
    return sorted(found)


def corpus(seed: int, conversations: int) -> Iterator[str]:
    """Every text to train on, in a fixed order."""
    for file in library_files():
        yield file.read_text("utf-8", errors="replace")[:MAX_FILE_CHARS]
    rng = random.Random(seed)
    for _ in range(conversations):
        yield conversation(rng)
    # Each repeated so that its words are worth a merge beside megabytes of English.
    for text in OTHER_SCRIPTS:
        for _ in range(60):
            words = text.split(" ")
            rng.shuffle(words)
            yield text + "\n" + " ".join(words)


def train(texts: list[str], size: int) -> Tokenizer:
    """Train a tokenizer of exactly `size` entries, special tokens first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def check(tokenizer: Tokenizer, size: int) -> None:
    """Stop here rather than ship a vocabulary that the template cannot use."""
    assert tokenizer.get_vocab_size() == size, "the corpus is too small for this size"
    for expected, name in enumerate(SPECIAL):
        assert tokenizer.token_to_id(name) == expected, f"{name} moved"
    for role in ROLES:
        assert len(tokenizer.encode(role).ids) == 1, f"role {role!r} is not one token"
    sample = "naïve 日本語 🙂\r\n\t  x = 1\n"
    assert tokenizer.decode(tokenizer.encode(sample).ids) == sample, "not exact"


def main() -> None:
    """Train, check and write the vocabulary."""
    root = Path(__file__).resolve().parent.parent
    default = root / "src" / "turnwire" / "rendering" / "data" / "turnwire.json"
    parser = argparse.ArgumentParser(description="Train the tokenizer that ships with Turnwire.")
    parser.add_argument("--out", type=Path, default=default, help="where to write it")
    parser.add_argument("--size", type=int, default=12_288, help="entries, special ones included")
    parser.add_argument("--seed", type=int, default=7, help="of the synthetic conversations")
    parser.add_argument("--conversations", type=int, default=6_000)
    options = parser.parse_args()

    console = Console()
    with Progress(console=console) as progress:
        gather = progress.add_task("Gathering text", total=None)
        texts: list[str] = []
        for text in corpus(options.seed, options.conversations):
            texts.append(text)
            progress.update(gather, completed=len(texts))
        progress.update(gather, total=len(texts))
    num_chars = sum(map(len, texts))
    with console.status(f"Merging {num_chars / 1e6:.1f} million characters"):
        tokenizer = train(texts, options.size)
    check(tokenizer, options.size)

    written = tokenizer.to_str(pretty=False)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(written + "\n", "utf-8")
    num_ids = sum(len(tokenizer.encode(text).ids) for text in texts[::50])
    ratio = sum(len(text) for text in texts[::50]) / num_ids
    console.print(
        f"{options.out.name}: {options.size} entries, {len(written) / 1024:.0f} KiB, "
        f"{ratio:.2f} characters a token"
    )


if __name__ == "__main__":
    main()
