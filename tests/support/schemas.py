"""The schemas of JSON responses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

_FOLDER = Path(__file__).parents[2] / "docs" / "schemas"


def valid_json(body: bytes | str, schema: str) -> dict[str, Any]:
    """Return the content of a response, which must be strict JSON and follow the schema."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    content: dict[str, Any] = json.loads(body, parse_constant=refuse)
    loaded = json.loads((_FOLDER / f"{schema}.json").read_text())
    Draft202012Validator.check_schema(loaded)
    Draft202012Validator(loaded).validate(content)
    return content
