"""The list of what is left out stays true to the Python that runs."""

from __future__ import annotations

import fnmatch
import platform
import sys

import pytest

from . import left_out
from .adapters import cpython_classes, cpython_modules, names_of_tests


def names_of_cpython() -> set[str]:
    """Modules, classes and tests, each as the list spells it."""
    names = set(cpython_modules())
    for class_name, case in cpython_classes():
        names.add(class_name)
        names.update(f"{class_name}.{test}" for test in names_of_tests(case))
    return names


def test_each_entry_in_force_names_something():
    if sys.version_info[:3] not in left_out.CHECKED_ON:
        pytest.skip(f"the list was not written against Python {platform.python_version()}")
    names = names_of_cpython()
    in_force = left_out.entries_of(sys.version_info[:3])
    assert [entry for entry in in_force if not fnmatch.filter(names, entry)] == []


def test_no_entry_is_listed_twice():
    entries = left_out.entries()
    assert sorted(entries) == sorted(set(entries))


def test_version_limits_belong_to_entries():
    assert (left_out.SINCE | left_out.UNTIL).keys() <= set(left_out.entries())
