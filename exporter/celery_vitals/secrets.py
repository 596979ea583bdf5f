"""Secret values, and their redaction from text.

`Secret` prevents a value from being printed by accident.  `Redactor` removes known secrets from
foreign text (the message of an exception, a traceback), however that text quotes them.
`without_credentials` removes the secret parts of a URL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn
from urllib.parse import unquote

MASK = "***"

_SENSITIVE = (
    r"(?:passw|passphrase|(?<![a-z])pass(?![a-z])|pwd|secret|token|credential"
    r"|(?:api|access|account|private)[_-]?key)"
)
_SENSITIVE_NAME = re.compile(_SENSITIVE, re.IGNORECASE)
# Host, port and path of an ordinary URL.  Anything else may be a connection string with keys.
_PLAIN = re.compile(r"[\w.\[\]:%~,-]*(?:/[\w./%~-]*)?(?:;[\w.\[\]:-]+)*")
# A ";" that no scheme follows may be a part of a password.
_ALTERNATES = re.compile(r";(?=[\w.+-]+://)")
_URL_WITH_USER = re.compile(r"([a-z][a-z0-9+.-]*://)[^\s'\"<>]*@", re.IGNORECASE)
_SENSITIVE_PAIR = re.compile(
    rf"([?&;/](?:[\w-]*{_SENSITIVE}[\w-]*|key|sig)=)([^&;\s'\"<>]+)", re.IGNORECASE
)
_SHORT = 8  # characters; a shorter secret may occur inside an ordinary word


class Secret:
    """A string that `repr`, `str`, formatting, copying and pickling never expose."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the string."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reveal() == self.reveal()

    def __hash__(self) -> int:
        return hash(self.reveal())

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled")


def without_credentials(url: str) -> str:
    """Return the URL (or URLs, separated by `;`) without user, password, query and fragment.

    Anything but scheme, host, port and path is reduced to its scheme.
    """
    return ";".join(map(_without_credentials, _ALTERNATES.split(url)))


def _without_credentials(url: str) -> str:
    scheme, found, rest = url.partition("://")
    if not found:
        return url if url.isidentifier() else MASK  # the bare name of a result backend
    # The last @ ends the user info, even if the password contains an unquoted @, / or #.
    rest = re.split(r"[?#]", rest.rpartition("@")[2])[0]
    return f"{scheme}://{rest if _PLAIN.fullmatch(rest) else MASK}"


def redact_urls(text: str) -> str:
    """Mask the user info and the sensitive parameters of every URL in the text."""
    return _SENSITIVE_PAIR.sub(rf"\1{MASK}", _URL_WITH_USER.sub(rf"\1{MASK}@", text))


def secrets_in_mapping(options: Mapping[str, Any]) -> Iterable[Secret]:
    """Yield the strings with a sensitive name in a mapping of options, nested ones included."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from secrets_in_mapping(value)
        elif isinstance(value, str) and value and _SENSITIVE_NAME.search(str(name)):
            yield Secret(value)


class Redactor:
    """Removes the given secrets, and the credentials of every URL, from text."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        found = {piece for secret in secrets for piece in _pieces(secret.reveal()) if piece}
        # Longest first: a secret may be a part of another.
        patterns = [
            _pattern(piece) for piece in sorted(found, key=lambda piece: (-len(piece), piece))
        ]
        self._known = re.compile("|".join(patterns)) if patterns else None

    def __call__(self, text: str) -> str:
        """Replace each secret in the text with `***`."""
        return redact_urls(self._known.sub(MASK, text) if self._known else text)


def _pieces(secret: str) -> Iterable[str]:
    """Yield the secret and, if it is a URL, its secret parts, unquoted."""
    yield secret
    for part in _ALTERNATES.split(secret):
        userinfo, found, _ = part.partition("://")[2].rpartition("@")
        if found:
            user, colon, password = userinfo.partition(":")
            yield unquote(password if colon else user)
    for match in _SENSITIVE_PAIR.finditer(secret):
        yield unquote(match[2])


def _pattern(secret: str) -> str:
    """Build a pattern that matches each character plain, URL-quoted, or escaped as in a literal."""
    pattern = "".join(_character(character) for character in secret)
    return rf"(?<!\w){pattern}(?!\w)" if len(secret) < _SHORT else pattern


def _character(character: str) -> str:
    quoted = "".join(f"%(?i:{byte:02x})" for byte in character.encode("utf-8", "surrogatepass"))
    forms = [re.escape(character), quoted]
    if character == " ":
        forms.append(r"\+")
    if character in "\\\"'":
        forms.insert(0, r"\\" + re.escape(character))
    elif not character.isascii():
        forms += [re.escape(ascii(character)[1:-1]), re.escape(json.dumps(character)[1:-1])]
    return f"(?:{'|'.join(forms)})"
