"""Count the private words that STYLE.md names, and find private words in identifiers.

    python -m tools.vocabulary [FOLDER ...]     word counts of these folders, exporter/ by default

Exit code 1: a row counts 15 or more words in exporter/, or an identifier of the repository has a
word of the glossary's "not" list.  A word is a run of letters: `tells_tasks` and `TellsTasks` both
contain "tells".
"""

from __future__ import annotations

import io
import keyword
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.base import ROOT

ROWS = (
    ("tell", "tells", "told"),
    ("nobody", "whoever", "somebody", "anybody"),
    ("hear", "heard", "deaf", "mute"),
)
"""Words that are counted together, in code, comments and docstrings."""
LIMIT = 15
"""A row must stay below this count in exporter/."""
CHECKED = ("exporter", "pulse", "tools", "benchmarks", "tests")
"""Folders whose identifiers are checked."""
_INSTEAD = {
    "worker registry": ("fleet",),
    "runner": ("lane", "lanes"),
    "blind spot": ("note", "notes", "doubt", "doubts"),
    "capability": ("ability", "abilities"),
    "started": ("begun",),
    "aggregated": ("folded",),
    "collector": ("follower", "followers"),
    "limit": ("patience", "patient", "most"),
    "offline": ("farewell", "farewells", "goodbye", "goodbyes"),
    "report, log, return": ("tell", "tells", "told", "say", "says", "said"),
    "observe, receive": ("hear", "hears", "heard", "hearing", "unheard", "ear", "ears"),
    "silent, no answer": ("deaf", "mute", "muted"),
    "a noun": ("nobody", "somebody", "anybody", "someone", "whoever", "stranger", "strangers"),
    "process reaper, inventory": ("warden", "leftovers"),
}
FORBIDDEN = {word: instead for instead, words in _INSTEAD.items() for word in words}
"""Each word of the "not" list, with the term to use instead."""
ALLOWED = {
    "add_note": "BaseException.add_note",
    "notes": "helm: NOTES.txt",
}
"""Identifiers of other projects that contain such a word."""


def words(text: str) -> list[str]:
    """Return the words of a text in lower case; underscores and capitals separate them."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)
    return [part.lower() for part in parts]


def counts(folder: Path) -> Counter[str]:
    """Count the words of all Python files below a folder."""
    return Counter(word for path in _files(folder) for word in words(path.read_text()))


def identifiers(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield place and name of each identifier below a folder, module names included."""
    for path in _files(folder):
        place = str(path.relative_to(ROOT))
        yield place, path.stem
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
            if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
                yield f"{place}:{token.start[0]}", token.string


def violations(folder: Path) -> Iterator[str]:
    """Yield a line for each private identifier: its first place, its name and the term."""
    seen: set[tuple[str, str]] = set()
    for place, name in identifiers(folder):
        found = FORBIDDEN.keys() & set(words(name))
        key = (place.partition(":")[0], name)
        if found and name not in ALLOWED and key not in seen:
            seen.add(key)
            terms = ", ".join(FORBIDDEN[word] for word in sorted(found))
            yield f"{place}: identifier {name} (use: {terms})"


def _files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def main(folders: Sequence[str]) -> int:
    """Print the counts and the violations; return the exit code."""
    failed = False
    for folder in folders or ("exporter",):
        found = counts(Path(folder))
        for row in ROWS:
            total = sum(found[word] for word in row)
            print(f"{folder}: {', '.join(row)}: {total} (limit: {LIMIT - 1})")
            failed |= folder == "exporter" and total >= LIMIT
    for folder in CHECKED:
        for line in violations(ROOT / folder):
            print(line, file=sys.stderr)
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
