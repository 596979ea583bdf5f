"""Mean and maximum length of lines, functions and files below a folder.

    python -m tools.code_size [FOLDER ...]      exporter/ by default

Lines of code only: blank lines do not count into the mean length of a line.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean


def sizes(folder: Path) -> dict[str, list[int]]:
    """Return the characters of each line, and the lines of each function and file."""
    texts = [path.read_text() for path in sorted(folder.rglob("*.py"))]
    return {
        "line": [len(line) for text in texts for line in text.splitlines() if line.strip()],
        "function": [length for text in texts for length in _functions(text)],
        "file": [len(text.splitlines()) for text in texts],
    }


def _functions(text: str) -> Iterator[int]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def main(folders: Sequence[str]) -> None:
    """Print a line for each folder and measure."""
    for folder in folders or ("exporter",):
        for name, found in sizes(Path(folder)).items():
            unit = "characters" if name == "line" else "lines"
            print(
                f"{folder}: {len(found)} {name}s, mean {mean(found):.1f} {unit},"
                f" longest {max(found)}"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
