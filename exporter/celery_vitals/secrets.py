"""Values that must not be shown, and text with them taken out.

`Secret` keeps a value from being printed by accident.  `Redactor` takes known secrets out of text that others wrote
(the message of an exception, a traceback), in whatever way that text has quoted them.  `without_credentials` makes of a
URL something that can be shown.
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
# Host, port and path of an ordinary URL.  What looks different may be a connection string with keys in it.
_PLAIN = re.compile(r"[\w.\[\]:%~,-]*(?:/[\w./%~-]*)?(?:;[\w.\[\]:-]+)*")
# A ; without a scheme behind it may be a part of a password.
_ALTERNATES = re.compile(r";(?=[\w.+-]+://)")
_URL_WITH_USER = re.compile(r"([a-z][a-z0-9+.-]*://)[^\s'\"<>]*@", re.IGNORECASE)
_SENSITIVE_PAIR = re.compile(
    rf"([?&;/](?:[\w-]*{_SENSITIVE}[\w-]*|key|sig)=)([^&;\s'\"<>]+)", re.IGNORECASE
)
_SHORT = 8  # characters; a shorter secret may well be part of an innocent word


class Secret:
    """A text that `repr`, `str`, formatting, copying and pickling never show; `reveal()` gives it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself."""
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
    """The URL (or URLs, separated by `;`) without user, password, query and fragment, fit to be shown.

    What does not look like scheme, host, port and path is cut down to its scheme.
    """
    shown = [_shown(part) for part in _ALTERNATES.split(url)]
    return ";".join(shown)


def _shown(url: str) -> str:
    scheme, found, rest = url.partition("://")
    if not found:
        return url if url.isidentifier() else MASK  # the bare name of a result backend
    # The last @ ends the user's part even where a password holds an unquoted @, / or #.
    rest = re.split(r"[?#]", rest.rpartition("@")[2])[0]
    return f"{scheme}://{rest if _PLAIN.fullmatch(rest) else MASK}"


def redact_urls(text: str) -> str:
    """The text with the user's part and the sensitive parameters of every URL in it masked."""
    return _SENSITIVE_PAIR.sub(rf"\1{MASK}", _URL_WITH_USER.sub(rf"\1{MASK}@", text))


def secrets_in_mapping(options: Mapping[str, Any]) -> Iterable[Secret]:
    """The texts in a mapping of options, however deep, whose name says that they are sensitive."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from secrets_in_mapping(value)
        elif isinstance(value, str) and value and _SENSITIVE_NAME.search(str(name)):
            yield Secret(value)


class Redactor:
    """Takes the given secrets, and the credentials of every URL, out of text."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        found = {piece for secret in secrets for piece in _pieces(secret.reveal()) if piece}
        # The longest first: a secret may be a part of another.
        patterns = [
            _pattern(piece) for piece in sorted(found, key=lambda piece: (-len(piece), piece))
        ]
        self._known = re.compile("|".join(patterns)) if patterns else None

    def __call__(self, text: str) -> str:
        """The text with `***` in place of what must not be shown."""
        return redact_urls(self._known.sub(MASK, text) if self._known else text)


def _pieces(secret: str) -> Iterable[str]:
    """The secret, and when it is a URL the parts of it that are secret on their own, unquoted."""
    yield secret
    for part in _ALTERNATES.split(secret):
        userinfo, found, _ = part.partition("://")[2].rpartition("@")
        if found:
            user, colon, password = userinfo.partition(":")
            yield unquote(password if colon else user)
    for match in _SENSITIVE_PAIR.finditer(secret):
        yield unquote(match[2])


def _pattern(secret: str) -> str:
    """A pattern of the secret in which every character may be plain, quoted as in a URL, or escaped as in a literal."""
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
