"""Bindings that no known option explains: the queues that they may bind have no length."""

from __future__ import annotations

import pytest

from celery_vitals.brokers.redis.unknown_options import UnknownOptions, bound_queues


@pytest.mark.parametrize(
    ("member", "queues"),
    [
        ("emails::emails", {"emails"}),
        ("rk||emails", {"emails"}),
        ("rk:^rk$:emails", {"emails", "mails"}),  # where its name begins is unknown
        ("bulk-emails::bulk-emails", {"bulk-emails"}),
        ("rk<=><=>emails", {"emails"}),
        ("emails", set()),
        ("", set()),
    ],
)
def test_queues_that_a_binding_with_an_unknown_separator_may_bind(
    member: str, queues: set[str]
) -> None:
    assert bound_queues([member], ["emails", "bulk-emails", "mails", "other"]) == queues


def test_a_blind_spot_names_the_queues_and_the_missing_option() -> None:
    assert list(UnknownOptions().blind_spots()) == []
    names = frozenset({"a", "b", "c", "d"})
    (spot,) = UnknownOptions(separator=names, separator_unknown=True).blind_spots()
    assert "a, b, c and others" in spot.reason
    assert "sep" in spot.reason
    assert spot.setting == "--broker-transport-option"
    (spot,) = UnknownOptions(prefix_unknown=True).blind_spots()
    assert "some queues" in spot.reason
    assert "global_keyprefix" in spot.reason
