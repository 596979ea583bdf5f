"""SQLAlchemy: the driver of a database."""

from __future__ import annotations

from typing import Any


def import_driver(dialect: Any) -> None:
    """Import the driver of a database.  Raises what its module raises.

    SQLAlchemy 1.4 `Dialect.dbapi`: the name of `import_dbapi` before 2.0.
    """
    (getattr(dialect, "import_dbapi", None) or dialect.dbapi)()
