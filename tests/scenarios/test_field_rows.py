"""Field notes 5.1, rows 22 to 31 and 38: which test shows the behaviour each of them expects.

22  all stations reconnect at once            23  meter silent, connection refused
24  meter answers with an exception           25  short or long block, wrong function code
26  NaN, infinite, sign flip, swap, tenfold   27  meter frozen
28  latency, jitter, duplicates, stale ids    29  two masters on the gateway
30  more load than vehicles can explain       31  the building steps by 80 A
38  curtailment arrives, is lost, is 0
"""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROWS: dict[int, tuple[str, ...]] = {
    22: ("scenarios/power-return.toml",),
    23: (
        "scenarios/meter-silence.toml",
        "wires/test_modbus.py::test_a_meter_that_refuses_connections_is_tried_again_at_every_poll",
    ),
    24: ("scenarios/meter-refuses.toml", "wires/test_modbus.py::test_each_fault_is_named_and_passes"),
    25: (
        "wires/test_modbus.py::test_each_fault_is_named_and_passes",
        "wires/test_modbus_lines.py::test_a_truncated_answer_over_tcp_is_a_lost_reading",
    ),
    26: (
        "scenarios/sign-flip.toml",
        "wires/test_modbus.py::test_what_cannot_be_true_is_nonsense",
        "wires/test_modbus.py::test_a_meter_that_turns_round_between_two_polls_is_not_believed",
        "core/test_witness.py::test_a_wrong_meter_is_found_by_the_steps_of_a_morning",
        "core/test_witness.py::test_swapped_phases_are_told_and_the_meter_is_still_believed",
    ),
    27: (
        "scenarios/meter-stuck.toml",
        "wires/test_modbus.py::test_a_meter_that_repeats_itself_for_a_minute_under_load_is_not_believed",
    ),
    28: (
        "scenarios/meter-late.toml",
        "wires/test_modbus.py::test_an_answer_to_another_question_is_not_taken",
        "wires/test_modbus_lines.py::test_a_wrong_transaction_id_is_no_answer",
        "wires/test_modbus_lines.py::test_a_late_answer_is_never_taken_for_the_next",
    ),
    29: (
        "scenarios/meter-busy.toml",
        "wires/test_modbus_lines.py::test_a_gateway_that_is_somebody_elses_is_asked_less_and_less",
    ),
    30: ("scenarios/unexplained-load.toml",),
    31: ("scenarios/base-step.toml", "scenarios/last-resort.toml"),
    38: ("scenarios/curtailment.toml",),
}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_shown_by_a_test_that_is_there(row: int) -> None:
    for shown in ROWS[row]:
        path, _, name = shown.partition("::")
        assert (TESTS / path).is_file(), shown
        assert f"def {name}(" in (TESTS / path).read_text() if name else path.endswith(".toml"), shown
