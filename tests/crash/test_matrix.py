"""Every scenario, every call that it makes, every way in which a call can go wrong, on every backend.

A case that fails is printed as the command that plays it again, call by call.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.homes import EVERY
from tests.crash.matrix import NOT_PLAYED, ONE_IN, Case, play, strike
from tests.crash.scenarios import SCENARIOS
from tq.testing import Fault, run_virtual

PLAYED = [(home, scenario) for home in EVERY for scenario in SCENARIOS if (home, scenario) not in NOT_PLAYED]


@pytest.fixture(autouse=True)
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let homes on a server find it."""
    for home in ("mongo", "redis"):
        if home in request.node.callspec.params.values():
            monkeypatch.setenv(f"TQ_TEST_{home.upper()}_URL", request.getfixturevalue(f"{home}_server"))


@pytest.mark.parametrize(("home", "scenario"), PLAYED)
def test_a_scenario_ends_well_where_nothing_goes_wrong(home: str, scenario: str, tmp_path: Path) -> None:
    calm = run_virtual(play(Case(home, scenario), tmp_path))
    assert not calm.found, str(calm)
    assert len(calm.calls) > 10


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_lost_and_nothing_doubled_at_one_call_in_six(scenario: str, fault: Fault, tmp_path: Path) -> None:
    wrong = [result for result in strike("memory", scenario, fault, tmp_path, every=6) if result.found]
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.crash
@pytest.mark.simulated
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize(("home", "scenario"), PLAYED)
def test_nothing_is_lost_and_nothing_doubled_whichever_call_goes_wrong(
    home: str, scenario: str, fault: Fault, tmp_path: Path
) -> None:
    results = strike(home, scenario, fault, tmp_path, every=ONE_IN[home])
    wrong = [result for result in results if result.found]
    assert not wrong, "\n".join(map(str, wrong))
    assert any(result.struck for result in results)
