"""The command `export`: alerting rules, dashboards and runbooks as files."""

from __future__ import annotations

from pathlib import Path

import click

import celery_vitals
from celery_vitals.cli.one_line import OneLineCommand
from celery_vitals.errors import ConfigError

_PACKAGE = Path(celery_vitals.__file__).parent
# The wheel contains the folders under their own names, a checkout elsewhere (see pyproject.toml).
_CHECKOUT_FOLDERS = {
    "alerts": "alerts",
    "dashboards": "grafana/dashboards",
    "runbooks": "docs/runbooks",
}


@click.command(cls=OneLineCommand)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite files that differ.")
def export(directory: Path, force: bool) -> None:
    """Write alerting rules, Grafana dashboards and runbooks to DIR."""
    try:
        files = _assets(_PACKAGE)
        different = [name for name, content in files.items() if _differs(directory / name, content)]
        if different and not force:
            count = len(different)
            problem = "1 existing file differs" if count == 1 else f"{count} existing files differ"
            example = directory / different[0]
            raise ConfigError(f"DIR: {problem}: {example} (use --force to overwrite)")
        for name, content in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"DIR: cannot access {error.filename}: {error.strerror}") from None
    click.echo(f"wrote {len(files)} files to {directory}")


def _assets(package: Path) -> dict[str, bytes]:
    """Return the content of each file by its path below DIR."""
    bundled, checkout = package / "assets", package.parents[1]
    folders = {
        name: bundled / name if bundled.is_dir() else checkout / folder
        for name, folder in _CHECKOUT_FOLDERS.items()
    }
    return {
        f"{name}/{path.name}": path.read_bytes()
        for name, folder in folders.items()
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


def _differs(path: Path, content: bytes) -> bool:
    return path.exists() and path.read_bytes() != content
