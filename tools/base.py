"""What every generator shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The root of the repository."""
Content = str | Path
"""The text of a file; a path stands for a symbolic link to it."""
Files = Mapping[Path, Content]
"""The content of each generated file, by its absolute path."""


@dataclass(frozen=True)
class Generator:
    """A source of generated files."""

    name: str
    files: Callable[[], Files]
    """Compute the files; nothing is written."""
    owned: tuple[str, ...] = ()
    """Glob patterns of the repository: a matching file that is not generated is stale."""

    def stale(self) -> dict[Path, Content | None]:
        """Return the new content of each stale file; None where the file is to be removed."""
        files = self.files()
        changed: dict[Path, Content | None] = {
            path: content for path, content in files.items() if not _has(path, content)
        }
        present = (path for pattern in self.owned for path in ROOT.glob(pattern))
        return changed | {path: None for path in present if path not in files}


def _has(path: Path, content: Content) -> bool:
    if isinstance(content, Path):
        return path.is_symlink() and path.resolve() == content.resolve()
    return path.is_file() and path.read_text() == content
