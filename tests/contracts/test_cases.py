"""Every kind that is registered is held to its contract."""

from __future__ import annotations

import pytest
from contracts.cases import CASES, name_of

from lidcli.config.sections import KINDS

CHECKED = [section for section in KINDS if section != "data"]


@pytest.mark.parametrize("section", CHECKED)
def test_every_kind_has_a_case(section: str) -> None:
    missing = set(KINDS[section]) - {case.kind for case in CASES[section]}
    assert not missing, (
        f"{section}: no contract holds {', '.join(sorted(missing))}; add a Case with its smallest"
        f' settings to CASES["{section}"] in tests/contracts/cases.py.'
    )


@pytest.mark.parametrize("section", CHECKED)
def test_cases_have_names_of_their_own(section: str) -> None:
    names = [name_of(case) for case in CASES[section]]
    assert len(set(names)) == len(names)
