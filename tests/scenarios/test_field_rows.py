"""Field notes 5.1, rows 22 to 31 and 38 to 60: which test shows the behaviour each of them expects.

22  all stations reconnect at once            23  meter silent, connection refused
24  meter answers with an exception           25  short or long block, wrong function code
26  NaN, infinite, sign flip, swap, tenfold   27  meter frozen
28  latency, jitter, duplicates, stale ids    29  two masters on the gateway
30  more load than vehicles can explain       31  the building steps by 80 A
38  curtailment arrives, is lost, is 0        39  disk full
40  somebody else locks the books             41  books damaged, at the start and while it runs
42  a write takes seconds                     43  the disk turns read-only
44  kill -9 at every point                    45  out of memory (as 44: systemd starts it again)
46  SIGTERM during a command                  47  the loop is blocked
48  one task dies                             49  the wall clock jumps
50  leap day, the hours of DST                51  mistakes in the config
52  a lower fuse (read at a start)            53  credentials that are missing or open to others
54  certificates that end                     55  misuse of the control socket
56  a dashboard that dies                     57  the network goes away and comes back
58  a migration that is cut off               59  the version before, on newer books
60  yesterday's backup on a live site
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
    39: (
        "ledger/test_recovery.py::test_a_small_disk_that_fills_goes_on_with_the_ballast",
        "ledger/test_storage.py::test_a_full_disk_keeps_entries_and_resumes",
        "ledger/test_storage.py::test_telemetry_is_dropped_not_kept",
        "ledger/test_kill_whole.py::test_what_was_answered_is_in_the_books",
    ),
    40: (
        "ledger/test_misery.py::test_who_wants_the_books_of_a_running_controller_does_not_get_them",
        "ledger/test_storage.py::test_a_second_controller_is_refused",
    ),
    41: (
        "ledger/test_recovery.py::test_a_damaged_file_comes_back_from_the_backup_and_from_itself",
        "ledger/test_recovery.py::test_damage_that_shows_while_it_runs_is_mended_and_what_waits_is_stored",
        "ledger/test_failpoints.py::test_a_damaged_file_is_replaced_whole_wherever_that_is_cut_off",
    ),
    42: (
        "ledger/test_misery.py::test_a_slow_disk_delays_only_who_waits_for_it_and_is_alarmed",
        "shell/test_runtime.py::test_while_the_ledger_hangs_decreases_go_out_and_raises_do_not",
    ),
    43: (
        "ledger/test_recovery.py::test_a_read_only_disk_means_no_books_until_it_is_back",
        "ledger/test_recovery.py::test_a_controller_without_books_acknowledges_nothing_and_starts_anew_once_they_are_there",
        "ledger/test_recovery.py::test_a_process_that_may_write_no_file_at_all_says_so",
    ),
    44: (
        "ledger/test_failpoints.py::test_nothing_acknowledged_is_lost_and_the_first_decision_is_safe",
        "ledger/test_kill_whole.py::test_the_first_limits_after_a_kill_leave_room_for_who_has_not_come_back",
    ),
    45: (
        "ledger/test_hard_times.py::test_killed_for_memory_it_starts_again_as_after_any_kill",
        "ledger/test_failpoints.py::test_nothing_acknowledged_is_lost_and_the_first_decision_is_safe",
        "ledger/test_misery.py::test_without_file_handles_those_who_are_connected_go_on",
    ),
    46: (
        "chaos/test_clean_stop.py::test_a_stop_leaves_every_station_on_its_fallback_within_ten_seconds",
        "chaos/test_clean_stop.py::test_a_station_that_does_not_answer_does_not_hold_up_the_stop",
        "shell/test_process.py::test_a_run_is_ready_obeys_the_signal_and_leaves_nothing",
    ),
    47: (
        "shell/test_notify.py::test_a_blocked_loop_gets_no_watchdog",
        "shell/test_notify.py::test_a_hanging_ledger_thread_gets_no_watchdog_until_it_works_again",
    ),
    48: (
        "ledger/test_hard_times.py::test_a_driver_that_dies_is_started_again_beside_the_others",
        "ledger/test_hard_times.py::test_without_one_of_its_own_tasks_it_ends_and_the_next_start_goes_on",
        "shell/test_runtime.py::test_a_driver_that_ends_in_any_way_runs_again",
        "shell/test_runtime.py::test_the_pause_between_restarts_doubles_up_to_its_longest",
    ),
    49: (
        "core/test_timekeeper.py::test_a_jump_without_a_service_is_followed_only_once_it_has_stood",
        "core/test_clock_doubt.py::test_schedules_and_departures_rest_and_come_back",
        "core/test_clock_doubt.py::test_leases_are_renewed_at_once_when_our_time_was_set",
        "shell/test_clock.py::test_a_clock_that_is_set_while_it_runs_is_shown_alarmed_and_followed_in_one_step",
        "shell/test_clock.py::test_a_box_that_wakes_up_in_1970_goes_on_from_when_its_clock_was_right",
    ),
    50: (
        "core/test_windows.py::test_a_leap_day_is_a_day",
        "core/test_windows.py::test_every_minute_agrees_with_a_walk_and_windows_never_overlap",
        "core/test_tariff.py::test_the_hour_that_comes_twice_has_its_price_twice",
        "core/test_tariff.py::test_the_hour_that_is_skipped_costs_nothing",
    ),
    51: ("config/test_config_mistakes.py::test_one_mistake_is_one_problem",),
    52: (
        "ledger/test_hard_times.py::test_a_fuse_that_the_fallbacks_do_not_fit_is_refused_and_what_runs_goes_on",
        "shell/test_runtime.py::test_after_a_restart_ceilings_are_budgeted_and_sessions_go_on",
        "shell/test_runtime.py::test_no_raise_beyond_what_others_may_still_draw_after_a_restart",
    ),
    53: (
        "config/test_config_load.py::test_bad_secret_files_are_refused",
        "config/test_config_load.py::test_a_secret_that_is_no_file_is_refused_at_once",
    ),
    54: (
        "wires/test_ocpp_security.py::test_ends_are_told_in_time",
        "wires/test_ocpp_tls.py::test_a_new_certificate_is_used_without_dropping_anybody",
    ),
    55: (
        "shell/test_console.py::test_a_line_that_is_no_call_is_answered",
        "shell/test_console.py::test_a_line_above_64_kb_closes_only_that_connection",
        "shell/test_console.py::test_a_slow_reader_is_dropped_while_others_go_on",
        "shell/test_console.py::test_more_clients_than_places_are_told_so",
    ),
    56: (
        "tui/test_rough_terminals.py::test_resized_to_nothing_and_back",
        "tui/test_rough_terminals.py::test_a_terminal_that_is_gone_ends_it",
    ),
    57: ("ledger/test_misery.py::test_a_network_that_goes_away_and_comes_back",),
    58: (
        "ledger/test_failpoints.py::test_a_migration_that_dies_is_gone_through_again",
        "ledger/test_recovery.py::test_a_migration_that_is_cut_off_leaves_the_old_file",
        "shell/test_upgrade.py::test_a_version_that_does_not_get_ready_gives_way",
    ),
    59: (
        "ledger/test_storage.py::test_a_newer_file_is_refused",
        "shell/test_upgrade.py::test_the_version_before_finds_the_books_it_can_read",
    ),
    60: ("ledger/test_backup.py::test_yesterdays_books_on_a_live_site",),
}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_shown_by_a_test_that_is_there(row: int) -> None:
    for shown in ROWS[row]:
        path, _, name = shown.partition("::")
        assert (TESTS / path).is_file(), shown
        assert f"def {name}(" in (TESTS / path).read_text() if name else path.endswith(".toml"), shown
