"""The format of the web configuration file: YAML, parsed strictly.

No message quotes the file. A key or a value may be a misplaced secret, so an error names the line,
the known part of the key's path, and the expected value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import yaml
from msgspec import Meta, Struct, field
from msgspec.structs import fields

from celery_vitals.settings.yaml_file import YAML_ERRORS

# The path of the offending value, at the end of a message of msgspec.
_PATH = re.compile(r"`\$([^`]*)`\Z")

TlsVersion = Literal["TLS12", "TLS13"]
ClientAuthType = Literal[
    "NoClientCert",
    "VerifyClientCertIfGiven",
    "RequireAndVerifyClientCert",
    "RequestClientCert",
    "RequireAnyClientCert",
    "RequireClientCert",
]
StringList = Annotated[tuple[str, ...], Meta(description="a list of strings")]
HeaderValue = Annotated[
    str, Meta(pattern=r"^[ -~]*\Z", description="one line of printable ASCII characters")
]
Users = Annotated[dict[str, Any], Meta(description="a mapping of user names to bcrypt hashes")]


class WebConfigError(Exception):
    """A defect of the web configuration: one line, without the file's name and secrets."""

    def __init__(self, problem: str, key: str = "", line: int = 0) -> None:
        super().__init__(f"{key}: {problem}" if key else problem)
        self._line = line

    def located(self, path: Path) -> str:
        """Return the message with the file and, when it is known, the line."""
        return f"{path}:{self._line}: {self}" if self._line else f"{path}: {self}"


class TlsSection(Struct, frozen=True, forbid_unknown_fields=True):
    """`tls_server_config`; the last four keys are known, but not supported."""

    cert_file: str = ""
    key_file: str = ""
    client_auth_type: ClientAuthType = "NoClientCert"
    client_ca_file: str = ""
    client_allowed_sans: StringList = ()
    min_version: TlsVersion = "TLS12"
    max_version: TlsVersion = "TLS13"
    cipher_suites: StringList = ()
    prefer_server_cipher_suites: bool = True
    cert: Any = None
    key: Any = None
    client_ca: Any = None
    curve_preferences: Any = None


class HeadersSection(Struct, frozen=True, forbid_unknown_fields=True):
    """`http_server_config.headers`: the headers that may be set, and their values."""

    csp: HeaderValue | None = field(default=None, name="Content-Security-Policy")
    hsts: HeaderValue | None = field(default=None, name="Strict-Transport-Security")
    content_type_options: Literal["nosniff"] | None = field(
        default=None, name="X-Content-Type-Options"
    )
    frame_options: Literal["deny", "sameorigin"] | None = field(
        default=None, name="X-Frame-Options"
    )
    xss_protection: HeaderValue | None = field(default=None, name="X-XSS-Protection")


class HttpSection(Struct, frozen=True, forbid_unknown_fields=True):
    """`http_server_config`; `http2` has no effect, as clients of HTTP/2 fall back to HTTP/1.1."""

    http2: bool = True
    headers: HeadersSection = HeadersSection()


class WebConfigFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    tls_server_config: TlsSection | None = None
    http_server_config: HttpSection = HttpSection()
    basic_auth_users: Users = {}
    rate_limit: Any = None


class Document:
    """A YAML file, and the lines of its keys.  Raises WebConfigError."""

    def __init__(self, path: Path) -> None:
        try:
            loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
            self._root = loader.get_single_node()
            content = None if self._root is None else loader.construct_document(self._root)
            self.content: object = {} if content is None else content
        except OSError as error:
            raise WebConfigError(f"cannot read the file: {error.strerror}") from None
        except UnicodeDecodeError:
            raise WebConfigError("not UTF-8 text") from None
        except YAML_ERRORS as error:
            # The parser's own text quotes the line, which may hold a secret.
            mark = getattr(error, "problem_mark", None)
            raise WebConfigError("not valid YAML", line=mark.line + 1 if mark else 0) from None

    def parse(self) -> WebConfigFile:
        """Return the content in its types.  Raises WebConfigError."""
        try:
            return msgspec.convert(_without_blanks(self.content, WebConfigFile), WebConfigFile)
        except msgspec.ValidationError as error:
            found = _PATH.search(str(error))
            raise self._invalid(re.findall(r"[\w-]+", found[1]) if found else []) from None

    def error(self, key: str, problem: str, *inner: object) -> WebConfigError:
        """Build the error of `key`, at the line of the key or of what `inner` names inside it."""
        return WebConfigError(problem, key, self._line([*filter(None, key.split(".")), *inner]))

    def _invalid(self, path: list[str]) -> WebConfigError:
        """Build the error of the value at `path`, of which only what the format knows is shown."""
        kind, known, content = WebConfigFile, list[str](), self.content
        for step in path:
            names = _keys(kind)
            if step not in names or not isinstance(content, dict):
                break
            kind, content = names[step], content.get(step)
            known.append(step)
        key, names = ".".join(known), _keys(kind)
        if names and isinstance(content, dict):
            for name in content:
                if name not in names:
                    expected = f"unknown key (expected one of: {', '.join(names)})"
                    return self.error(key, expected, name)
        return self.error(key, f"must be {_expectation(kind)}", *path[len(known) :])

    def _line(self, steps: list[object]) -> int:
        node, line = self._root, 1
        for step in steps:
            found = next((pair for pair in _children(node) if pair[0] == str(step)), None)
            if found is None:
                break
            _, line, node = found
        return line


def _children(node: yaml.Node | None) -> Iterator[tuple[str, int, yaml.Node]]:
    """Yield name, line and value of each entry of a mapping or a sequence."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield str(key.value), key.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield str(index), value.start_mark.line + 1, value


def _without_blanks(content: object, kind: Any) -> object:
    """Drop known keys without a value, which mean the default; an empty section means none."""
    names = _keys(kind)
    if not (names and isinstance(content, dict)):
        return content
    return {
        name: _without_blanks(value, names.get(name))
        for name, value in content.items()
        if name not in names or not (value in (None, "") or (value == {} and _keys(names[name])))
    }


def _keys(kind: Any) -> dict[str, Any]:
    """Return the types of a section's keys; none for what is no section."""
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        return {}
    return {one.encode_name: _without_none(one.type) for one in fields(kind)}


def _without_none(kind: Any) -> Any:
    return next((one for one in get_args(kind) if NoneType in get_args(kind)), kind)


def _expectation(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        return str(get_args(kind)[1].description)
    if get_origin(kind) is Literal:
        return f"one of: {', '.join(get_args(kind))}"
    if names := _keys(kind):
        return f"a mapping with the keys {', '.join(names)}"
    return "true or false" if kind is bool else "a string"
