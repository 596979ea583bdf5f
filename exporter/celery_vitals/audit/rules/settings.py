"""Names of settings, and settings that are not for production."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from celery_vitals.audit.evidence import Evidence, Severity, Source
from celery_vitals.audit.facts import Facts, names
from celery_vitals.audit.findings import SETTINGS_PAGE, Problem, rule
from celery_vitals.third_party import celery_internals

_SIMILAR = 0.85


@rule(
    "always_eager",
    Severity.ERROR,
    Source.SETTINGS,
    risk="Tasks run inside the process that sends them, and workers get nothing.",
    link="task_always_eager",
)
def always_eager(facts: Facts) -> Iterator[Problem]:
    """Tasks are executed where they are sent."""
    for conf in facts.configurations:
        if conf.get("task_always_eager") is True:
            yield Problem(
                "task_always_eager",
                "task_always_eager is on",
                conf.line("task_always_eager", False),
                conf.evidence("task_always_eager"),
            )


@rule(
    "setting_old_name",
    Severity.WARNING,
    Source.SETTINGS,
    risk="Celery 6 ignores the old names of settings, so that their defaults apply.",
    link=f"{SETTINGS_PAGE}#new-lowercase-settings",
)
def setting_old_name(facts: Facts) -> Iterator[Problem]:
    """Settings have their names from before Celery 4."""
    for conf in facts.configurations:
        old = {
            name: new
            for name, new in celery_internals.old_setting_names().items()
            if name in conf.spelled and name != _spelled_by_prefix(conf.prefix, new)
        }
        if old:
            first = sorted(old)[0]
            new = old[first]
            yield Problem(
                first,
                f"{names(old)}: {'old names' if len(old) > 1 else 'an old name'},"
                f" {first} is {conf.prefix}{new.upper() if conf.prefix else new} now",
                f"celery upgrade settings {'settings.py --django' if conf.prefix else 'FILE'}",
                tuple(Evidence(name, f"now {old[name]}", conf.source) for name in sorted(old)),
            )


def _spelled_by_prefix(prefix: str, name: str) -> str:
    return f"{prefix}{name.upper()}" if prefix else ""


@rule(
    "settings_old_and_new",
    Severity.ERROR,
    Source.SETTINGS,
    risk="One of the two values is ignored without a message.",
    link=f"{SETTINGS_PAGE}#new-lowercase-settings",
)
def settings_old_and_new(facts: Facts) -> Iterator[Problem]:
    """A setting is given by its old and its new name."""
    for conf in facts.configurations:
        for old, new in sorted(celery_internals.old_setting_names().items()):
            spelled = f"{conf.prefix}{new.upper()}" if conf.prefix else new
            if old != spelled and {old, spelled} <= conf.spelled:
                yield Problem(
                    spelled,
                    f"both {old} and {spelled} are set",
                    conf.line(new, "...").partition(" = ")[0] + f" = ...  # and remove {old}",
                    (
                        Evidence(old, "set", conf.source),
                        Evidence(spelled, "set", conf.source),
                    ),
                )


@rule(
    "setting_misspelled",
    Severity.WARNING,
    Source.SETTINGS,
    risk="Celery ignores a setting that it does not know, so that the default applies.",
    link=SETTINGS_PAGE,
)
def setting_misspelled(facts: Facts) -> Iterator[Problem]:
    """A setting is unknown, and resembles a known one."""
    known = celery_internals.celery_setting_names()
    new = {name for name in known if name.islower()}
    for conf in facts.configurations:
        for spelled in sorted(conf.spelled):
            if not spelled.startswith(conf.prefix) or spelled in known:
                continue
            name = spelled.removeprefix(conf.prefix)
            name = name.lower() if conf.prefix else name
            if name in known or not name.islower():
                continue
            close = get_close_matches(name, new, n=1, cutoff=_SIMILAR)
            if close and not _extends(name, close[0]):
                right = f"{conf.prefix}{close[0].upper()}" if conf.prefix else close[0]
                yield Problem(
                    spelled,
                    f"{spelled} is no setting of Celery (did you mean {right}?)",
                    conf.line(close[0], "...").partition(" = ")[0] + " = ...",
                    (Evidence(spelled, "unknown", conf.source),),
                )


def _extends(name: str, known: str) -> bool:
    """Return whether a name is that of an extension, such as `result_backend_foo`."""
    return name.startswith(f"{known}_") or name.endswith(f"_{known}")


@rule(
    "setting_deprecated",
    Severity.WARNING,
    Source.SETTINGS,
    risk="A later version of Celery removes the setting, and its default applies.",
    link=SETTINGS_PAGE,
)
def setting_deprecated(facts: Facts) -> Iterator[Problem]:
    """A setting is deprecated."""
    for conf in facts.configurations:
        for name, (removed, instead) in celery_internals.deprecated_settings().items():
            if name in conf.explicit:
                fix = " and ".join(conf.line(one, conf.get(name)) for one in instead.split(" and "))
                yield Problem(
                    name,
                    f"{name} is deprecated and will be removed in Celery {removed}",
                    fix.replace(" and app.conf", "; app.conf"),
                    conf.evidence(name),
                )


@rule(
    "utc_disabled",
    Severity.WARNING,
    Source.SETTINGS,
    risk="ETAs and expiry are local times: they are wrong by an hour when the clocks change, and by"
    " more between machines of different time zones.",
    link="enable_utc",
)
def utc_disabled(facts: Facts) -> Iterator[Problem]:
    """Times in messages are not in UTC."""
    for conf in facts.configurations:
        if conf.get("enable_utc") is False:
            yield Problem(
                "enable_utc",
                "enable_utc is off",
                conf.line("enable_utc", True),
                conf.evidence("enable_utc"),
            )


@rule(
    "task_protocol_old",
    Severity.WARNING,
    Source.SETTINGS,
    risk="Messages of protocol 1 lack the headers that chains, chords, monitoring and dead letters"
    " need.",
    link="task_protocol",
)
def task_protocol_old(facts: Facts) -> Iterator[Problem]:
    """Tasks are sent in the message protocol of Celery 3."""
    for conf in facts.configurations:
        if conf.number("task_protocol") == 1:
            yield Problem(
                "task_protocol",
                "task_protocol is 1",
                conf.line("task_protocol", 2),
                conf.evidence("task_protocol"),
            )
