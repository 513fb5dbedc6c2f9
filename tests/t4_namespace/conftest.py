"""Fixtures of tier 4: `fakesysfs run`, as root and as an ordinary user.

A kind of person that can have no namespaces on this host is skipped with the reason.
"""

from __future__ import annotations

import pytest
from t3_mount.host import Person, people, why_no_mount, why_no_namespaces


@pytest.fixture(params=people(), ids=lambda person: person.name)
def person(request: pytest.FixtureRequest) -> Person:
    assert isinstance(request.param, Person)
    if reason := why_no_mount() or why_no_namespaces(request.param):
        pytest.skip(reason)
    return request.param


@pytest.fixture
def me() -> Person:
    """Whoever runs the tests."""
    person = people()[0]
    if reason := why_no_mount() or why_no_namespaces(person):
        pytest.skip(reason)
    return person
