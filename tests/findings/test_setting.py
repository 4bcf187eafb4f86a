"""What a mission report says was simulated is what its plans and programs hold."""

from __future__ import annotations

from harness.findings.setting import setting
from harness.findings.steps import purpose_of
from harness.kernel.steps import OPS
from harness.lab.unit_rows import scenario_data
from scenarios import missions, scenarios


def faults(*names: str) -> list[str]:
    found = []
    for name in names:
        data = scenario_data(scenarios()[name])
        unit = {"scenario": name, "program": data["program"], "plan": data["plan"], "runs": 1}
        found += [row["fault"] for row in setting([unit])["faults"]]
    return found


def test_chance_network_clock_and_memory_are_named_alone_and_together() -> None:
    chance = "one call in 10 of tool service raises OSError, as the seed draws it"
    jitter = "network: toxic latency (jitter 500, latency 500), downstream"
    memory = "stage load takes 8192 MB of memory, or none is left"
    assert faults("chaos_monthly/random_failures") == [chance]
    assert faults("chaos_monthly/latency_jitter") == [jitter]
    assert faults("chaos_monthly/memory") == [memory]
    assert faults("chaos_monthly/clock_fast", "chaos_monthly/clock_back")[::2] == [
        "every stage without a timeout of its own is given 0.6 s",
        "stages that may take as long as their timeout, or longer: 1",
        "the wall clock is set 1 s back after 0.2 s",
    ]
    assert faults("chaos_monthly/together") == [
        chance,
        jitter,
        "the wall clock is 1 s behind from the start",
        "the wall clock is set 2 s ahead after 0.3 s",
        memory,
    ]


def test_no_scenario_of_the_month_is_without_its_fault() -> None:
    for name in missions()["CHAOS-MONTHLY"].tests.values():
        words = " ".join(faults(name))
        assert any(x in words for x in ("one call in", "toxic", "wall clock", "memory")), name


def test_every_kind_of_step_has_words() -> None:
    assert [op for op in OPS if purpose_of([{"op": op}]) == op] == []
