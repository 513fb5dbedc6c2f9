"""Fixtures of tier 5."""

from __future__ import annotations

import pytest
from t3_mount.host import Person, people, why_no_mount, why_no_namespaces


@pytest.fixture
def me() -> Person:
    """Whoever runs the tests, where they can have instances."""
    person = people()[0]
    if reason := why_no_mount() or why_no_namespaces(person):
        pytest.skip(reason)
    return person
