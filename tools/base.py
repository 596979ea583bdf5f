"""What every generator shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The root of the repository."""
Files = Mapping[Path, str]
"""The text of each generated file, by its absolute path."""


@dataclass(frozen=True)
class Generator:
    """A source of generated files."""

    name: str
    files: Callable[[], Files]
    """Compute the files; nothing is written."""
    owned: tuple[str, ...] = ()
    """Glob patterns of the repository: a matching file that is not generated is stale."""

    def stale(self) -> dict[Path, str | None]:
        """Return the new text of each stale file; None where the file is to be removed."""
        files = self.files()
        changed: dict[Path, str | None] = {
            path: text
            for path, text in files.items()
            if not path.is_file() or path.read_text() != text
        }
        present = (path for pattern in self.owned for path in ROOT.glob(pattern))
        return changed | {path: None for path in present if path not in files}
