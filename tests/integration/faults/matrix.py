"""What can go wrong, row by row: what happens here, what peers do, and the tests that show it.

``python tests/integration/faults/matrix.py`` writes ``docs/faults.md`` from it; ``test_matrix.py``
fails when that page is out of date, or when a test that is named here does not exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["GROUPS", "PAGE", "Row", "page", "rows"]

PAGE = Path(__file__).parents[3] / "docs" / "faults.md"

NOT_YET = "Not yet: "
"""How the text of a row begins that is not true of the code."""


@dataclass(frozen=True, slots=True)
class Row:
    """One fault.

    Attributes
    ----------
    number : int
    fault : str
    here : str
        What the user meets.
    peers : str
        What was measured or read of others; empty where nothing was.
    tests : tuple of str
        ``file::test``, below ``tests``.
    """

    number: int
    fault: str
    here: str
    peers: str
    tests: tuple[str, ...]


DEATH = "integration/faults/test_process_death.py::test_"
ENGINES = "integration/faults/test_engines.py::test_"
CRASH = "integration/faults/test_crash_matrix.py::test_"
BAD = "integration/faults/test_bad_input.py::test_"
WIRE = "integration/faults/test_wire.py::test_"
FUZZ = "integration/faults/test_fuzz.py::test_"
SECURITY = "integration/faults/test_security.py::test_"
MISUSE = "integration/faults/test_misuse.py::test_"
SCALE = "integration/faults/test_scale.py::test_"
CLIENTS = "integration/faults/test_clients.py::test_"
OUTPUTS = "integration/faults/test_outputs.py::test_"
LIFE = "integration/test_lifecycle.py::test_"
RESULTS = "integration/test_results.py::test_"
CARE = "integration/test_engine_care.py::test_"
DURABLE = "integration/faults/test_durability.py::test_"
HUBDEATH = "integration/test_hub_death.py::test_"
ARRAYS = "integration/test_stored_arrays.py::test_"
TCP = "integration/test_transport_tcp.py::test_"
CAPTURE = "integration/test_capture.py::test_"
WORKER = "integration/test_worker_capture.py::test_"
VIEWS = "integration/test_views.py::test_"

GROUPS: dict[str, list[Row]] = {
    "An engine dies": [
        Row(
            1,
            "`kill -9` in the middle of a task",
            "`EngineError` on that task at once: the process is watched, no heartbeat is waited "
            "for. It tells engine, host, pid, signal or exit code, task, label and last output. "
            "Siblings and queue go on, a new engine takes the number. Rerun only with `retries`.",
            "`ProcessPoolExecutor` and loky: the whole pool is broken, with all that waits. "
            "`multiprocessing.Pool`: no answer, ever. Dask, Ray, executorlib: silently run again. "
            "ipyparallel: an error after 5 s (load-balanced), and one engine fewer.",
            (
                DEATH + "a_killed_engine_costs_the_task_that_it_ran_and_is_replaced",
                DEATH + "retries_run_a_task_again_when_its_engine_died_and_nothing_else_does",
                CARE + "an_engine_error_tells_all_there_is",
            ),
        ),
        Row(
            2,
            "`kill -9` while idle",
            "No task is touched; the engine is replaced, and `client.events` tells.",
            "`ProcessPoolExecutor`, loky: the pool is broken. ipyparallel: not replaced.",
            (DEATH + "an_engine_killed_while_idle_costs_nothing_and_is_replaced",),
        ),
        Row(
            3,
            "death while a large result is sent",
            "As 1. Half a message is none: the result is whole, or the task is lost.",
            "`ProcessPoolExecutor` 3.11 and loky: the caller is never answered.",
            (DEATH + "an_engine_killed_while_it_sends_a_large_result_costs_that_result_at_most",),
        ),
        Row(
            4,
            "death after the result was sent",
            "The result counts. The first end wins and never changes, for every client.",
            "",
            (
                DEATH + "a_result_that_had_left_its_engine_counts_although_the_engine_died",
                "unit/test_hub_state.py::test_only_what_a_dead_engine_had_begun_is_lost",
                "unit/test_core_results.py::test_the_first_end_wins_and_later_events_are_counted",
            ),
        ),
        Row(
            5,
            "`os._exit` in a task",
            "As 1, with the exit code and what the task printed last.",
            "As 1.",
            (DEATH + "a_task_that_ends_its_process_is_lost_alone_and_says_how",),
        ),
        Row(
            6,
            "`sys.exit` in a task",
            "`RemoteError` that names `SystemExit`; the engine lives, and `get()` does not end the "
            "notebook kernel.",
            "`multiprocessing.Pool`: the caller is never answered.",
            (
                DEATH
                + "a_task_that_raises_no_exception_but_a_base_exception_fails_and_ends_nobody",
                BAD + "an_exit_in_a_cell_ends_neither_engine_nor_client",
            ),
        ),
        Row(
            7,
            "a task raises `KeyboardInterrupt`",
            "`RemoteError`; never a bare interrupt in the client.",
            "",
            (DEATH + "a_task_that_raises_no_exception_but_a_base_exception_fails_and_ends_nobody",),
        ),
        Row(
            8,
            "a task raises its own kind of `BaseException`",
            "`RemoteError` with its name, text and traceback.",
            "Dask: the caller is never answered.",
            (DEATH + "a_task_that_raises_no_exception_but_a_base_exception_fails_and_ends_nobody",),
        ),
        Row(
            9,
            "segmentation fault",
            "As 1, with the signal's name and the Python frames of the crash.",
            "As 1; none tells where it happened.",
            (
                DEATH + "a_task_that_ends_its_process_is_lost_alone_and_says_how",
                BAD + "a_crash_tells_where_it_happened_and_what_was_said",
            ),
        ),
        Row(
            10,
            "killed by the kernel as memory ran out",
            "As 1, and the error says that memory ran out, as the kernel counts it. With "
            "`retries` it is tried once more, not for ever.",
            "Dask restarts workers near their limit, and runs the task again.",
            (
                CARE + "an_engine_that_ran_out_of_memory_says_so_and_tries_once_more",
                CLIENTS + "a_kill_from_outside_comes_with_a_hint_about_memory",
            ),
        ),
        Row(
            11,
            "`MemoryError` in a task",
            "The error of that task, with its traceback; what filled the memory is let go first.",
            "",
            (DEATH + "a_task_out_of_memory_fails_with_its_error_and_the_engine_goes_on",),
        ),
        Row(
            12,
            "an engine is stopped (`SIGSTOP`)",
            "Said to be stopped, at once, and not killed. Others go on. It goes on after "
            "`SIGCONT`, or `client.restart(engine)` replaces it.",
            "",
            (
                DEATH + "a_stopped_engine_is_said_to_be_stopped_and_goes_on_when_it_may",
                DEATH + "a_stopped_engine_that_is_killed_loses_its_task_only",
                CARE + "all_engines_can_be_restarted_also_stopped_ones",
            ),
        ),
        Row(
            13,
            "C code that holds the interpreter for minutes",
            "Nothing: a busy engine is not a dead one. Its process is watched, nobody waits for "
            "it to answer.",
            "",
            (DEATH + "an_engine_whose_c_code_holds_the_interpreter_is_not_taken_for_dead",),
        ),
        Row(
            14,
            "an engine dies at its start",
            "`StartError` with what it printed last. After 5 such deaths in a minute no more are "
            "started, and what waits fails and says why.",
            "",
            (
                LIFE + "engines_that_cannot_start_say_why",
                ENGINES + "engines_that_die_again_and_again_are_given_up",
            ),
        ),
        Row(
            15,
            "a task forks, and the child lives on",
            "The child never speaks for the engine: it ends where it would return from the task, "
            "or goes on with its own things until the engine ends.",
            "",
            (
                DEATH + "a_child_that_a_task_forks_never_speaks_for_its_engine",
                CARE + "a_task_may_fork_and_its_child_speaks_for_nobody",
            ),
        ),
        Row(
            16,
            "an engine leaves grandchildren",
            "They end with it: every engine has a process group of its own. What makes itself a "
            "daemon (`setsid`) stays, as everywhere.",
            "",
            (
                DEATH + "what_an_engine_started_ends_with_it",
                LIFE + "leaving_the_with_ends_tasks_that_do_not_want_to_end",
                CARE + "what_tasks_leave_running_ends_with_the_cluster",
            ),
        ),
    ],
    "What cannot travel": [
        Row(
            17,
            "a function or an argument cannot be pickled",
            "`SerializationError` at the call, with the path: `argument 2['lock'].inner`.",
            "`ProcessPoolExecutor`: an error when the result is asked for, without the place.",
            (
                BAD + "an_argument_that_cannot_be_pickled_is_named_when_it_is_given",
                BAD + "a_function_that_cannot_be_pickled_is_named",
            ),
        ),
        Row(
            18,
            "a result cannot be pickled",
            "`RemoteError` on that task, with type, path and a short repr; the engine lives.",
            "",
            (
                BAD + "a_result_that_cannot_be_pickled_is_named_and_shown",
                BAD + "an_item_whose_result_cannot_be_pickled_leaves_its_siblings",
            ),
        ),
        Row(
            19,
            "a result cannot be unpickled here",
            "`ResultDecodeError` on that result. The bytes are kept: after the missing module was "
            "imported, `get()` gives the value.",
            "ipyparallel: the caller is never answered, and the bar shows 100 %.",
            (
                BAD + "a_result_that_raises_when_it_is_unpickled_here_fails_alone",
                BAD + "a_result_is_decoded_once_its_module_can_be_imported",
            ),
        ),
        Row(
            20,
            "an exception whose `__init__` breaks unpickling",
            "Its `__init__` is never called; the error is of its type, with message and traceback.",
            "`multiprocessing.Pool`: the caller is never answered.",
            (BAD + "every_exception_becomes_a_remote_error",),
        ),
        Row(
            21,
            "an exception group",
            "Its members are kept: `except*` works.",
            "ipyparallel: errors are strings; `except ValueError` never matches.",
            (BAD + "members_of_a_group_are_handled_by_except_star",),
        ),
        Row(
            22,
            "an exception with 50 MB in its arguments",
            "Cut for display, at both ends, and it says so.",
            "",
            (
                BAD + "an_exception_with_huge_arguments_is_cut",
                "unit/test_worker_failures.py::test_texts_are_bounded_and_say_so",
            ),
        ),
        Row(
            23,
            "causes, notes, tracebacks",
            "Always told, as text.",
            "",
            (BAD + "causes_and_notes_are_told",),
        ),
        Row(
            24,
            "endless recursion, structures too deep to pickle",
            "An error of that task or call; no crash.",
            "",
            (
                BAD + "endless_recursion_fails_its_task",
                BAD + "a_structure_too_deep_to_pickle_is_refused_on_both_sides",
            ),
        ),
        Row(
            25,
            "an object that raises, exits or crashes while it is pickled or unpickled",
            "On an engine: that task fails. Here: an error of the call or of that result; where "
            "it ends the caller's process, cluster and results are untouched. See the crash "
            "matrix below.",
            "loky has 16 such cases among its tests, and recovers from them with a new pool.",
            (
                CRASH + "on_an_engine_it_fails_that_task_and_no_other",
                CRASH + "in_the_callers_process_it_is_an_error_there_or_ends_that_process_alone",
            ),
        ),
        Row(
            26,
            "a result of gigabytes",
            "Up to `result_limit` (2 GiB) it travels; above, `ResultTooLarge` names the limit.",
            "",
            (MISUSE + "a_result_above_the_limit_fails_its_task_and_names_the_limit",),
        ),
        Row(
            27,
            "a task returns a generator",
            "An error that says: `return list(...)`.",
            "",
            (BAD + "a_lazy_result_is_to_be_made_a_list",),
        ),
        Row(
            28,
            "a coroutine function is submitted",
            "Awaited on the engine.",
            "`ProcessPoolExecutor`: the coroutine object cannot be pickled.",
            (VIEWS + "coroutine_functions_are_awaited_on_the_engine",),
        ),
        Row(
            29,
            "lambdas, closures, classes of the notebook",
            "Travel by value.",
            "`ProcessPoolExecutor`: `PicklingError`; ipyparallel: on request.",
            (
                VIEWS + "every_kind_of_callable_travels",
                VIEWS + "functions_and_classes_of_main_travel_with_what_they_use",
            ),
        ),
        Row(
            30,
            "client and engines of different versions",
            "Refused when they connect, with both versions; another patch release is let through.",
            "",
            (
                WIRE + "a_client_of_another_python_is_refused_with_both_versions",
                WIRE + "a_peer_of_another_protocol_is_refused",
                "unit/test_wire_versions.py::test_what_does_not_fit_is_refused_with_both_versions",
            ),
        ),
    ],
    "Peers that mean no good": [
        Row(
            31,
            "a peer without the right key",
            "With `transport='tcp'`: turned away by CURVE, and counted; each role has a key of "
            "its own. Without: nobody else can connect.",
            "ipyparallel signs its messages; Dask and Ray on request encrypt with TLS.",
            (
                TCP + "a_peer_without_the_key_for_this_door_is_turned_away",
                TCP + "the_right_key_is_let_in",
            ),
        ),
        Row(
            32,
            "a message that comes again",
            "Changes nothing: its tasks are known, the first end stands. Over TCP, CURVE does not "
            "take it at all.",
            "",
            (WIRE + "a_task_that_ended_is_changed_by_no_further_message",),
        ),
        Row(
            33,
            "buffers changed on their way",
            "With `transport='tcp'`: every frame is sealed (CURVE); noise on the line ends that "
            "connection. Else they do not leave the kernel.",
            "",
            (
                TCP + "noise_at_the_ports_hurts_nobody",
                WIRE + "another_user_of_the_machine_cannot_connect",
            ),
        ),
        Row(
            34,
            "messages that are none",
            "Dropped and counted by hub and engine: 100,000 random and damaged ones in each run "
            "of the tests cost no crash, no memory, no descriptor.",
            "",
            (
                FUZZ + "noise_of_a_client_is_dropped_and_counted_and_costs_nothing",
                FUZZ + "noise_of_an_engine_is_dropped_and_counted_and_costs_nothing",
                FUZZ + "noise_of_a_hub_is_dropped_by_the_engine_that_goes_on",
                FUZZ + "good_messages_with_absurd_contents_do_no_harm",
                WIRE + "what_is_no_message_is_dropped_and_counted",
            ),
        ),
        Row(
            35,
            "an oversized message of a stranger",
            "It costs the sender the connection, and nobody else anything.",
            "",
            (TCP + "an_oversized_message_costs_its_sender_the_connection",),
        ),
        Row(
            36,
            "a flood of junk",
            "Only the user's own processes can send any; the hub works on.",
            "",
            (WIRE + "a_flood_of_junk_leaves_the_hub_at_work",),
        ),
        Row(
            37,
            "somebody uses an engine's name",
            "Names are random and given by the hub; the first connection keeps its name, others "
            "are not heard.",
            "",
            (
                WIRE + "nobody_takes_the_place_of_an_engine",
                WIRE + "the_library_refuses_peers_that_reuse_a_name",
            ),
        ),
        Row(
            38,
            "the cluster's folder is open to others",
            "Refused, with the command that mends it.",
            "",
            (WIRE + "a_folder_that_others_may_enter_is_refused_with_what_mends_it",),
        ),
        Row(
            39,
            "the runtime folder is a link, or somebody else's",
            "Refused; nothing starts. Never an abstract socket.",
            "",
            (
                WIRE + "a_link_in_the_place_of_the_folder_is_refused_and_nothing_starts",
                "unit/test_wire_runtime.py::test_a_folder_of_somebody_else_is_refused",
                SECURITY + "no_process_listens_where_others_could_connect",
            ),
        ),
        Row(
            40,
            "another user of the machine connects",
            "Cannot: Unix sockets in a folder that only its owner may enter.",
            "ipyparallel, Dask, Ray: TCP ports; the first two on loopback by default.",
            (
                WIRE + "another_user_of_the_machine_cannot_connect",
                SECURITY + "files_and_sockets_are_the_users_alone_whatever_the_umask",
            ),
        ),
        Row(
            41,
            "pickles in the hub",
            "Never opened: a hub in which unpickling is fatal does all its work.",
            "Dask's scheduler unpickles what clients send.",
            (
                SECURITY + "a_hub_in_which_unpickling_is_fatal_does_all_its_work",
                SECURITY + "no_module_of_the_hub_imports_what_opens_pickles",
            ),
        ),
    ],
    "The client's side": [
        Row(
            42,
            "the client is killed while tasks run",
            "A persistent cluster works on. A new process gets everything by id, by label or as "
            "the last call (-1): values, outputs, the shape of maps.",
            "ipyparallel: by ids, when the cluster was told to stay; a map comes back as a list "
            "of chunks, and above 1,024 records the oldest are gone. Dask: results go with their "
            "client, unless published. Pools: all is lost.",
            (DURABLE + "everything_can_be_had_again_after_the_client_was_killed",),
        ),
        Row(
            43,
            "client and hub are killed",
            "What the hub acknowledged is on disk: it is there in the next cluster of that id, "
            "also when everything was killed at once.",
            "ipyparallel: its database is in memory by default. Dask: all is lost.",
            (
                DURABLE + "acknowledged_results_are_there_after_client_hub_and_engines_were_killed",
                HUBDEATH + "nothing_acknowledged_is_lost_when_the_hub_is_killed_at_random_moments",
                ARRAYS + "everything_dies_before_and_after_the_store_has_an_array",
            ),
        ),
        Row(
            44,
            "Ctrl-C in `get`, `wait`, iteration, `await`",
            "`KeyboardInterrupt` at once. Tasks go on, the result is usable, a second wait works.",
            "ipyparallel's `%%px`: swallowed while streaming; the cell counts as good and "
            '"Run All" goes on.',
            (
                ENGINES + "ctrl_c_ends_waiting_and_nothing_else",
                ENGINES + "ctrl_c_while_submitting_leaves_the_client_usable",
                ENGINES + "ctrl_c_reaches_no_engine",
            ),
        ),
        Row(
            45,
            "the client's process forks",
            "The child gets a clear error and may connect for itself; the parent notices nothing.",
            "",
            (
                LIFE + "a_forked_child_is_told_to_connect_again_and_harms_nobody",
                LIFE + "a_forked_child_may_connect_for_itself",
            ),
        ),
        Row(
            46,
            "a pending result is forgotten",
            "Its tasks run on, the hub keeps their results, the client keeps nothing.",
            "ipyparallel: `history` grows for good, and caches hold up to 128 results.",
            (
                CLIENTS + "results_that_nobody_holds_run_on_and_leave_nothing_here",
                RESULTS + "a_result_that_nobody_holds_runs_all_the_same",
            ),
        ),
        Row(
            47,
            "a result is pickled",
            "It is the cluster's id and the ids of its tasks: no data, no key. It is attached "
            "again where it is unpickled.",
            "ipyparallel: cannot be pickled.",
            (
                CLIENTS + "a_pickled_result_holds_ids_and_nothing_else",
                RESULTS + "a_pickled_result_is_had_in_another_process",
            ),
        ),
        Row(
            48,
            "many threads, callbacks that raise, submit or wait",
            "Errors of callbacks are logged and stop no other. Callbacks may submit, and wait for "
            "other results.",
            "",
            (
                MISUSE + "callbacks_may_submit_and_wait_and_one_that_raises_stops_nobody",
                RESULTS + "many_threads_may_wait_for_one_result_and_for_their_own",
            ),
        ),
        Row(
            49,
            "the interpreter ends with tasks under way",
            "Engines of its own end within 5 s, and nothing is left. A cluster that was joined "
            "works on.",
            "joblib: workers stay after Ctrl-C (reported by users).",
            (
                LIFE + "an_interpreter_that_ends_with_tasks_under_way_ends_soon",
                LIFE + "a_killed_client_takes_its_cluster_with_it",
            ),
        ),
        Row(
            50,
            "time-outs 0, -1, None",
            "0 looks once; -1 and None wait for ever; other negative numbers: `ValueError`.",
            "",
            (MISUSE + "a_timeout_that_is_none_is_refused_by_name", RESULTS + "timeouts_that_wait"),
        ),
        Row(
            51,
            "time-outs nan, inf, `'1'`, True",
            "inf waits for ever; the others are refused, naming the argument.",
            "",
            (MISUSE + "a_timeout_that_is_none_is_refused_by_name",),
        ),
        Row(
            52,
            "the system's clock jumps",
            "Waits and durations go by clocks that do not jump; times of day are only shown.",
            "ipyparallel: durations subtract the clocks of two machines.",
            (MISUSE + "a_clock_that_jumps_changes_neither_waits_nor_durations",),
        ),
    ],
    "Outputs": [
        Row(
            53,
            "ten million printed lines",
            "Head and tail are kept (1,000,000 characters), with a line that says what is "
            "missing; the memory of hub and client stays flat.",
            "ipyparallel: each further piece shows the whole stream again.",
            (
                OUTPUTS + "a_flood_of_lines_leaves_hub_and_client_as_they_were",
                CAPTURE + "endless_output_is_cut_in_the_middle_and_says_so",
                WORKER + "ten_million_lines_of_python_keep_memory_flat",
            ),
        ),
        Row(
            54,
            "bytes that are no text, written by C code",
            "Kept as text with replacement characters, with the task that ran.",
            "Pools: lost, or in the terminal of the server.",
            (
                CAPTURE + "bytes_that_are_no_text_arrive_as_text",
                CAPTURE + "what_c_code_and_children_write_keeps_its_place",
            ),
        ),
        Row(
            55,
            "output after its task has ended, from a thread",
            "Belongs to the task that started the thread, never to a later one.",
            "",
            (CAPTURE + "threads_print_into_the_task_that_started_them",),
        ),
        Row(
            56,
            "hostile HTML in what tasks print, return or raise",
            "Escaped in everything that is drawn here. What a task displays as HTML is shown "
            "like the display of a cell.",
            "",
            (
                "jupyter/browser/test_widget.py::test_nothing_that_a_task_says_runs_in_the_page",
                "unit/test_display_reprs.py::test_nothing_that_comes_from_a_task_becomes_html",
            ),
        ),
        Row(
            57,
            "the result is there, its output is not yet",
            "Cannot be: both travel in one ordered stream.",
            "ipyparallel: two channels, and a wait of its own for the output.",
            (
                OUTPUTS + "when_a_result_is_there_so_is_all_that_it_printed",
                CAPTURE + "no_line_of_many_is_lost",
            ),
        ),
    ],
    "Store and hub": [
        Row(
            58,
            "the disk is full, or slow",
            "Full: results come from memory, and the client is told that they are not stored; "
            "writing goes on by itself when there is room. Slow: once 512 MiB wait for it, tasks "
            "begin as fast as it takes results, and the client is told.",
            "",
            (
                DURABLE + "a_full_disk_costs_no_result_and_writing_goes_on_when_there_is_room",
                ARRAYS + "a_full_disk_costs_no_result_and_no_more_memory_than_the_limit",
                "integration/test_coming_back.py::test_no_task_begins_while_the_disk_is_far_behind_and_all_do_in_the_end",
            ),
        ),
        Row(
            59,
            "the database is damaged, or is none",
            "Moved aside with a timestamp; a new one begins, and the client is told.",
            "",
            (DURABLE + "a_file_that_is_no_store_is_moved_aside_and_said",),
        ),
        Row(
            60,
            "the database is on NFS, or another hub has it",
            "No write-ahead log over a network. A second hub is refused, naming the first one.",
            "",
            (
                DURABLE + "a_second_hub_is_refused_the_store_of_the_first_one",
                DURABLE + "a_file_that_lies_on_another_machine_is_recognised",
            ),
        ),
        Row(
            61,
            "mode of the database file",
            "0600 from its first moment; a file that others may read or write is refused, with "
            "the command that mends it.",
            "SQLite by itself goes by the umask.",
            (DURABLE + "the_file_is_the_users_alone_and_one_that_is_not_is_refused",),
        ),
        Row(
            62,
            "the hub is killed",
            "Persistent clusters: another one takes its place, engines finish what they run and "
            "hand it over, waiting clients notice nothing. Others: `HubError` on everything "
            "outstanding, at once.",
            "ipyparallel: the caller is never answered when the controller is killed.",
            (
                DURABLE + "a_killed_hub_is_followed_by_another_one_and_nobody_notices",
                DURABLE + "without_a_store_a_killed_hub_answers_everybody_with_an_error",
                HUBDEATH + "what_is_asked_of_a_dead_hub_the_next_one_answers",
                ARRAYS + "the_hub_dies_before_the_store_has_anything",
                LIFE + "a_killed_hub_resolves_everything_and_is_named",
                LIFE + "a_hub_that_dies_wakes_a_thread_that_waits",
            ),
        ),
        Row(
            63,
            "the hub stands still",
            "Nobody who submits is held up; waits time out; all goes on when the hub does.",
            "",
            (LIFE + "a_hub_that_stands_still_stops_nobody_from_submitting",),
        ),
        Row(
            64,
            "a client vanishes while the hub sends to it",
            "The hub drops it; its tasks go on and their results are kept.",
            "Dask: the tasks of a client that closes are cancelled.",
            (
                WIRE + "a_client_that_vanishes_costs_the_hub_nothing",
                RESULTS + "the_tasks_of_a_client_that_left_go_on",
            ),
        ),
    ],
    "Calls that ask for too much": [
        Row(
            65,
            "no engines",
            "Direct calls are refused at once. Load-balanced ones wait, with a warning that says "
            "so.",
            "ipyparallel, load-balanced: waits for ever, in silence.",
            (
                MISUSE + "without_engines_direct_calls_are_refused_and_others_say_that_they_wait",
                VIEWS + "without_engines_direct_calls_are_refused_and_others_wait_for_one",
            ),
        ),
        Row(
            66,
            "an engine that is not there",
            "99: `IndexError`; `'x'`: `TypeError`; -1: the last; twice the same: `ValueError`.",
            "",
            (MISUSE + "engines_that_are_not_there_are_refused_by_number",),
        ),
        Row(
            67,
            "abort of what waits, runs, or has ended",
            "Answered for each task: aborted, running, finished or unknown. Running tasks are "
            "interrupted when that is asked for, with SIGINT, SIGTERM or SIGKILL; no other task "
            "is hit.",
            "ipyparallel: a map with an aborted part never resolves; calls on several engines "
            "return the error as a value. Dask, executors: running tasks cannot be stopped.",
            (
                MISUSE + "what_is_asked_of_ended_running_and_queued_tasks_is_answered_for_each",
                RESULTS + "running_tasks_are_interrupted_and_queued_ones_are_not",
                CARE + "each_task_is_told_what_became_of_it",
                CARE + "a_task_that_does_not_listen_is_ended_on_request",
                CARE + "no_signal_hits_a_task_that_it_is_not_for",
            ),
        ),
        Row(
            68,
            "a map over nothing",
            "A finished, empty result.",
            "",
            (MISUSE + "a_map_over_nothing_is_finished_and_empty",),
        ),
        Row(
            69,
            "a map without end",
            "`imap` takes only as many items as may be under way.",
            "ipyparallel's `map`: all messages are built before the first result.",
            (
                MISUSE + "an_endless_map_takes_only_what_may_be_under_way",
                VIEWS + "a_lazy_map_takes_only_as_many_items_as_may_be_under_way",
            ),
        ),
        Row(
            70,
            "an iterable that raises half-way",
            "`imap`: results before it come first, then the error, with what was under way as "
            "its `async_result`. `map`: nothing was sent yet.",
            "",
            (
                MISUSE + "an_iterable_that_raises_half_way_loses_nothing_of_what_was_submitted",
                VIEWS + "an_error_of_the_sequence_comes_before_anything_is_sent",
            ),
        ),
        Row(
            71,
            "wrong chunk size or grouping",
            "Refused at the call, with the values that there are.",
            "",
            (
                MISUSE + "a_wrong_chunk_size_is_refused_at_the_call",
                MISUSE + "a_wrong_grouping_is_refused_with_those_that_there_are",
            ),
        ),
        Row(
            72,
            "a task waits for its own engines",
            "`NestedWaitError` at once, also for `await`, unless the wait has an end. Submitting, "
            "and engines of its own, are fine.",
            "Pools: a deadlock. Dask: `secede` has to be called.",
            (
                MISUSE + "a_task_that_would_wait_for_its_own_engines_is_told_so",
                MISUSE + "a_task_may_submit_to_its_own_engines_and_start_some",
            ),
        ),
        Row(
            73,
            "128 engines and more",
            "At most 2 descriptors for each in the hub, 6 in all outside of the engine.",
            "",
            (
                SCALE + "128_engines_cost_few_descriptors_each_and_share_the_work",
                SCALE + "descriptors_grow_by_at_most_six_for_each_engine",
            ),
        ),
        Row(
            74,
            "100,000 queued tasks",
            "At most 2 KB each in hub and client; a call never waits for the hub.",
            "ipyparallel: 31 KB each in the client; `ProcessPoolExecutor`: 1.9 KB.",
            (SCALE + "a_hundred_thousand_queued_tasks_are_small_and_never_hold_up_who_submits",),
        ),
        Row(
            75,
            "`ulimit` is reached at the start",
            "`StartError` that names the limit; what had started is ended.",
            "",
            (
                MISUSE
                + "a_start_without_enough_file_descriptors_names_that_limit_and_leaves_nothing",
            ),
        ),
    ],
}

HEAD = """# Faults: what happens here, and what peers do

<!-- Written by tests/integration/faults/matrix.py: change it there. -->

Every row is shown by the tests that stand below the tables: real processes, real signals, real
sockets. About peers only what was measured, or read in their code or manual, is said
(ipyparallel 9.2, distributed 2026.8, Ray 2.60, loky 3.7, joblib 1.6, executorlib 1.11 and the
standard library of Python 3.11, in November 2026); an empty field says nothing. How fast, and how
sure: see [reliability](reliability.md). What others on the machine can do: see
[Security](project/security.md).

The promise behind the rows:

- every task that was accepted ends in exactly one state (done, failed, lost, aborted), once;
- only what ran on a dead engine fails; what was queued goes on;
- a dead engine is replaced, and the client stays usable;
- errors say where, how and why;
- what could not be done is said.
"""

CRASHES = """## The crash matrix

What an object or a function does, and where, and what the caller gets.

| stage | raises | `os._exit` | crashes | `SystemExit` | `KeyboardInterrupt` |
|---|---|---|---|---|---|
| arguments are pickled, here | `SerializationError` | this process ends | this process ends | \
`SerializationError` | `KeyboardInterrupt` |
| arguments are unpickled, engine | `RemoteError` | `EngineError` | `EngineError` | \
`RemoteError` | \
`RemoteError` |
| the task runs, engine | `RemoteError` | `EngineError` | `EngineError` | `RemoteError` | \
`RemoteError` |
| the result is pickled, engine | `SerializationError` | `EngineError` | `EngineError` | \
`SerializationError` | `RemoteError` |
| the result is unpickled, here | `ResultDecodeError` | this process ends | this process ends | \
`ResultDecodeError` | `KeyboardInterrupt` |
| the exception is unpickled, here | `RemoteError` as text | this process ends | \
this process ends \
| `RemoteError` as text | `KeyboardInterrupt` |

In each case the other tasks, the hub and the other clients are untouched, and the results of a
process that ended can be had by another one. `KeyboardInterrupt` is let through here as nobody
can tell it from that of a person at the keyboard; the result can be asked for again.

"""


def rows() -> Iterator[Row]:
    """All rows, in their order."""
    for group in GROUPS.values():
        yield from group


def page() -> str:
    """The text of ``docs/faults.md``."""
    parts = [HEAD]
    for group, some in GROUPS.items():
        parts.append(f"## {group}\n")
        parts.append(
            "| # | what goes wrong | what happens here | what peers do |\n|---|---|---|---|"
        )
        parts += [f"| {row.number} | {row.fault} | {row.here} | {row.peers} |" for row in some]
        parts.append("")
    parts.append(CRASHES + "## The tests\n\nBelow `tests/`.\n")
    for row in rows():
        named = ", ".join(f"`{test}`" for test in row.tests)
        parts.append(f"{row.number}. {named}")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
