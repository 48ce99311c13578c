"""Asserts every case of `kernel_cases.py` on one kernel. `--long` adds the groups that are mostly evcxr's own work, or that other tests cover in part."""

import pytest
from cases.folder import write_folder
from kernel_cases import GROUPS, Cases


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    cases = Cases(write_folder(tmp_path_factory.mktemp("cases")))
    yield cases
    cases.end()


def parameters():
    for group in GROUPS:
        for case in group.cases:
            marks = [pytest.mark.long] if group.long else []
            marks += [pytest.mark.xfail(reason=case.pending, strict=False)] if case.pending else []
            yield pytest.param(group, case, marks=marks, id=f"{group.title}: {case.name}")


@pytest.mark.parametrize(("group", "case"), list(parameters()))
def test_a_case_shows_what_it_must(cases, group, case):
    fault = cases.check(group, case)
    assert not fault, fault


def test_names_of_cases_are_distinct():
    names = [(group.title, case.name) for group in GROUPS for case in group.cases]
    assert len(names) == len(set(names))
