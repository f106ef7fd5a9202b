"""The prose is plain English: words and constructions that slow a reader are kept out of docs, docstrings, comments,
help texts, log lines and error messages.

Architecture decision records are never edited, so they are not checked.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_WORDS = 40
"""Longest sentence in a Markdown page; a colon and a semicolon end a sentence too."""

START = r"(?:^|(?<=[.;!?] )|(?<=\| ))"
WORDS = {
    "only (not 'alone')": r"\balone\b",
    "again (not 'anew', 'afresh')": r"\b(?:anew|afresh)\b",
    "if (not 'once that is')": r"\bonce (?:that|this) is\b",
    "forever (not 'for ever')": r"\bfor ever\b",
    "about (not 'some' before a number)": r"\bsome (?:two|three|four|five|ten|twenty|thirty|\d+)\b",
    "repair or fix (not 'mend')": r"\bmend(?:s|ed|ing)?\b",
    "name the actor (not 'whoever', 'whatever', 'nobody')": r"\b(?:whoever|whomever|whatever|nobody|whose every)\b",
    "is (not 'stands'); 'stands for' is fine": r"\b(?:stands|stood)\b(?! for\b)",
    "means, contains, shows (not 'says')": r"\b(?:says|said)\b",
    "contains, has, keeps (not 'holds'); a lock is held": r"\bholds\b(?! out\b| (?:a|the|its) (?:lock|permit))",
    "isn't a, is not (not 'is no')": r"(?<!\bthere )\b(?:is|are|was|were) no\b(?! (?:longer|better|more|worse|less)\b)",
    "our, ours (not 'of ours')": r"\bof ours\b",
    "'must not' or 'cannot' and the actor (not 'may not be ... by')": r"\bmay not be \w+ by\b",
    "more expensive (not 'dearer', 'dearest')": r"\bdear(?:er|est)\b",
    "plain connectives": r"\b(?:lest|whence|thereof|therein|hither)\b",
    "they, their, them (not 'he', 'his', 'him')": r"\b(?:he|his|him)\b",
    "start with the subject (not 'What ...')": START + r"What (?![^.]*\?)",
    "start with the subject (not 'Of ...')": START + r"Of (?!course\b)",
}
PATTERNS = {
    advice: re.compile(pattern, 0 if pattern.startswith(START) else re.IGNORECASE) for advice, pattern in WORDS.items()
}
ANYWHERE = re.compile("|".join(one for one in WORDS.values() if not one.startswith(START)), re.IGNORECASE)
KEYS = (
    "alone", "anew", "afresh", "once that is", "once this is", "some t", "some f", "whoever", "whomever", "whatever",
    "nobody", "whose every", "stands", "stood", "says", "said", "holds", "of ours", "may not be", "dearer", "dearest",
    "whence", "thereof", "therein", "hither",
)  # fmt: skip
OTHERS = [
    re.compile(one)
    for one in (
        r" no\b(?:(?<=\bis no)|(?<=\b(?:was|are) no)|(?<=\bwere no))(?<!there is no)(?<!there are no)",
        r"some \d",
        r"for ever\b",
        r"mend(?<=\bmend)",
        r"lest(?<=\blest)",
        r"h(?:e(?<=\bhe)|is(?<=\bhis)|im(?<=\bhim))\b",
    )
]
"""Every match of ANYWHERE has one of KEYS or of these. Each begins with plain text, so the search is much quicker."""
STARTS = ("What ", "Of ")

ALLOWED: frozenset[tuple[str, str]] = frozenset()
"""(file, text of the line) of false positives."""

Line = tuple[int, str]


def tracked() -> list[str]:
    """The files under version control, as paths from the root."""
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in listing.stdout.splitlines() if (ROOT / path).is_file()]


def is_suspect(text: str) -> bool:
    """Return whether a text may have one of the words: most files do not, and need not be parsed."""
    low = text.lower()
    likely = any(key in low for key in KEYS) or any(other.search(low) for other in OTHERS)
    return (likely and bool(ANYWHERE.search(text))) or any(start in text for start in STARTS)


def python_lines(source: str, *, strings: bool) -> Iterator[Line]:
    """Comments and docstrings of a Python file; with `strings`, also every other text of three words or more."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.strip("#: ")
    nodes = list(ast.walk(ast.parse(source)))
    bare = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            continue
        if node.value.count(" ") > 1 and (strings or id(node) in bare):
            yield from ((node.lineno + place, line.strip()) for place, line in enumerate(node.value.splitlines()))


def markdown_lines(text: str) -> Iterator[Line]:
    """The lines of a page outside code blocks, table rows cut into cells, without Markdown's own marks."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith("<!--"):
            plain = re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "CODE", line)).replace("**", "")
            cells = plain.strip("| ").split(" | ") if plain.startswith("|") else [plain.lstrip("#-0123456789.> ")]
            yield from ((number, cell.strip()) for cell in cells)


def comment_lines(text: str) -> Iterator[Line]:
    """The comments of a file whose comments begin with #."""
    for number, line in enumerate(text.splitlines(), 1):
        if found := re.search(r"(?:^|\s)#+:? (.*)", line):
            yield number, found[1]


def prose(path: str) -> Iterator[Line]:
    """The lines of prose of a file; none if it has a format that is not checked."""
    name = Path(path)
    if path.startswith("docs/adr/") or not (name.suffix in SUFFIXES or name.name in NAMES):
        return
    text = (ROOT / path).read_text(encoding="utf-8")
    if name.suffix == ".py":
        if not is_suspect(text):
            return
        yield from python_lines(text, strings=not path.startswith("tests/"))
    elif name.suffix == ".md":
        yield from markdown_lines(text)
    else:
        yield from comment_lines(text)


SUFFIXES = (".py", ".md", ".toml", ".yml", ".yaml", ".conf", ".lua", ".js")
NAMES = ("Makefile", "Dockerfile", ".env.example", "run", "lock", "lock-check", "setup", "compose-test")


def faults(path: str, lines: Iterator[Line]) -> Iterator[str]:
    """One line for each match of a pattern, and in Markdown for each sentence that is too long."""
    for number, text in lines:
        found = [advice for advice, pattern in PATTERNS.items() if pattern.search(text)] if is_suspect(text) else []
        longest = max(len(sentence.split()) for sentence in re.split(r"(?<=[.:;?!]) ", text))
        if path.endswith(".md") and longest > MAX_WORDS:
            found.append(f"split the sentence of {longest} words")
        if (path, text) not in ALLOWED:
            yield from (f"{path}:{number}: {advice}: {text}" for advice in found)


def test_prose_is_plain() -> None:
    checked = [path for path in tracked() if path != "tests/test_prose.py"]
    assert [fault for path in checked for fault in faults(path, prose(path))] == []


@pytest.mark.parametrize(
    "text",
    [
        "Scores compare within one answer alone.",
        "What was not taken is dropped.",
        "It is done. What was not taken is dropped.",
        "The page says how.",
        "A file that is no bundle.",
        "Of several clicks the first is the interaction.",
        "A manifest holds digests.",
        "Some 12 rows.",
        "Rows are kept for ever.",
        "He mends it.",
        "Lest it fails.",
        "Files that were no bundles.",
        "It may not be read by users.",
    ],
)
def test_a_pattern_finds(text: str) -> None:
    assert list(faults("a.py", iter([(1, text)])))


@pytest.mark.parametrize(
    "text",
    [
        "There is no such route.",
        "It is no longer served.",
        "R stands for rows.",
        "Each worker holds a lock.",
        "What is a bundle? A folder.",
        "the age of a model, and what it reads",
    ],
)
def test_plain_text_passes(text: str) -> None:
    assert not list(faults("a.py", iter([(1, text)])))


@pytest.mark.slow
def test_the_quick_search_misses_nothing() -> None:
    texts = [(path, (ROOT / path).read_text(encoding="utf-8")) for path in tracked() if Path(path).suffix in SUFFIXES]
    found = [(path, is_suspect(text)) for path, text in texts if ANYWHERE.search(text)]
    assert len(found) > 50
    assert [path for path, suspect in found if not suspect] == []


def test_a_long_sentence_is_found_in_a_page_and_code_is_not_read() -> None:
    page = "word " * (MAX_WORDS + 1) + "\n\n```sh\n# alone\n```\n\n`says`, [a page](says.md)\n"
    assert len(list(faults("a.md", markdown_lines(page)))) == 1
