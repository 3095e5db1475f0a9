"""What of CPython's asyncio tests is not run on our loops, and why.

A reason says what the test asks that only CPython's own loop can answer; that a test
fails is no reason. Names are `module`, `module.Class` and `module.Class.test`; in the
last, `*` stands for any part. `test_left_out` keeps each entry alive: it must match a
test of the running Python, unless SINCE or UNTIL says otherwise.
"""

from __future__ import annotations

import fnmatch
import functools
import sys

MAKES_NO_LOOP = "makes no loop"
MOCKED_SELECTOR = "feeds events through a mock in the place of BaseSelectorEventLoop._selector"
DEAF = "mocks BaseEventLoop._write_to_self, without which a real loop cannot be woken"
STEPS = "runs single steps of BaseEventLoop._run_once; our turn is another method"
MOCKED_SIGNAL = "mocks the module signal inside asyncio.unix_events; ours is another module"
MOCKED_SOCKET = "connects a mock in the place of a socket; our engine asks the kernel by descriptor"
STEERED_CLOCK = "steers the clock of TestLoop, a loop of CPython's test-suite"
SELECTOR_SENDFILE = "calls BaseSelectorEventLoop's private sendfile and looks into its selector"
MOCKED_OS = "mocks the module os inside asyncio.unix_events; our sendfile is another module"
ACCEPT_PARTS = "calls BaseSelectorEventLoop's private _accept_connection or _start_serving"
ITS_OWN_LOOP = "makes a loop of CPython's by name, or in another process"
CHILD_WATCHER = "about child watchers, which our loop does not use"
SAME_SUBPROCESS = "SubprocessPidfdWatcherTests again, under another child watcher"
SAME_SELECTOR = "EPollEventLoopTests again, under another selector"
SAME_TASK = (
    "CTask_CFuture_Tests and PyTask_PyFuture_Tests again, in a mixture of C and Python: "
    "the same calls to the loop"
)
GARBAGE = "about the garbage collector and futures, in 100 full collections; no turn of the loop"

MODULES = {
    "test_proactor_events": "Windows's loop, on mocks",
    "test_protocols": MAKES_NO_LOOP,
    "test_selector_events": "the private parts of BaseSelectorEventLoop, on mocks",
    "test_tools": MAKES_NO_LOOP,
    "test_transports": MAKES_NO_LOOP,
    "test_windows_events": "Windows",
    "test_windows_utils": "Windows",
}

CLASSES = {
    "test_base_events.BaseEventTests": MAKES_NO_LOOP,
    "test_base_events.BaseLoopSockSendfileTests": "builds a BaseSelectorEventLoop on a mock",
    "test_base_events.TestSelectorUtils": MAKES_NO_LOOP,
    "test_buffered_proto.BufferedProtocolProactorTests": "Windows",
    "test_events.AbstractEventLoopTests": MAKES_NO_LOOP,
    "test_events.PolicyTests": "about the policies of CPython",
    "test_events.PollEventLoopTests": SAME_SELECTOR,
    "test_events.SelectEventLoopTests": SAME_SELECTOR,
    "test_events.TimerTests": MAKES_NO_LOOP,
    "test_sendfile.PollEventLoopTests": SAME_SELECTOR,
    "test_sendfile.SelectEventLoopTests": SAME_SELECTOR,
    "test_server.ProactorStartServerTests": "Windows",
    "test_sock_lowlevel.PollEventLoopTests": SAME_SELECTOR,
    "test_sock_lowlevel.SelectEventLoopTests": SAME_SELECTOR,
    "test_sslproto.ProactorStartTLSTests": "Windows",
    "test_subprocess.GenericWatcherTests": CHILD_WATCHER,
    "test_subprocess.MultiLoopChildWatcherTests": CHILD_WATCHER,
    "test_subprocess.SubprocessFastWatcherTests": SAME_SUBPROCESS,
    "test_subprocess.SubprocessMultiLoopWatcherTests": SAME_SUBPROCESS,
    "test_subprocess.SubprocessSafeWatcherTests": SAME_SUBPROCESS,
    "test_subprocess.SubprocessThreadedWatcherTests": SAME_SUBPROCESS,
    "test_subprocess.SubprocessTransportTests": "a private base class, on mocks",
    "test_tasks.CIntrospectionTests": MAKES_NO_LOOP,
    "test_tasks.CTaskSubclass_PyFuture_Tests": SAME_TASK,
    "test_tasks.CTask_CFuture_SubclassTests": SAME_TASK,
    "test_tasks.CTask_PyFuture_Tests": SAME_TASK,
    "test_tasks.GenericTaskTests": MAKES_NO_LOOP,
    "test_tasks.PyIntrospectionTests": MAKES_NO_LOOP,
    "test_tasks.PyTask_CFutureSubclass_Tests": SAME_TASK,
    "test_tasks.PyTask_CFuture_Tests": SAME_TASK,
    "test_tasks.PyTask_PyFuture_SubclassTests": SAME_TASK,
    "test_unix_events.AbstractChildWatcherTests": CHILD_WATCHER,
    "test_unix_events.BaseChildWatcherTests": CHILD_WATCHER,
    "test_unix_events.FastChildWatcherTests": CHILD_WATCHER,
    "test_unix_events.PolicyTests": CHILD_WATCHER,
    "test_unix_events.SafeChildWatcherTests": CHILD_WATCHER,
    "test_unix_events.SelectorEventLoopSignalTests": MOCKED_SIGNAL,
    "test_unix_events.UnixReadPipeTransportTests": "a private class, on TestLoop and mocks",
    "test_unix_events.UnixWritePipeTransportTests": "a private class, on TestLoop and mocks",
}

TESTS = {
    MAKES_NO_LOOP: (
        "test_events.HandleTests.test_callback_with_exception",
        "test_events.HandleTests.test_coroutine_like_object_debug_formatting",
        "test_events.HandleTests.test_handle",
        "test_events.HandleTests.test_handle_repr",
        "test_events.HandleTests.test_handle_repr_debug",
        "test_events.HandleTests.test_handle_weakref",
        "test_events.TestAbstractServer.test_close",
        "test_events.TestAbstractServer.test_get_loop",
        "test_runners.RunTests.test_asyncio_run_only_coro",
        "test_runners.RunnerTests.test_custom_factory",
        "test_unix_events.TestFork.test_fork_not_share_current_task",
        "test_unix_events.TestFork.test_fork_not_share_event_loop",
    ),
    ITS_OWN_LOOP: (
        "test_base_events.BaseEventLoopTests.test_default_exc_handler_broken",
        "test_base_events.BaseEventLoopTests.test_env_var_debug",
        "test_eager_task_factory.CEagerTaskFactoryLoopTests.test_issue105987",
        "test_runners.RunTests.test_loop_factory_default_event_loop",
        "test_tasks.*GatherTests.test_env_var_debug",
        "test_tasks.CompatibilityTests.test_debug_mode_interop",
    ),
    STEPS: (
        "test_base_events.BaseEventLoopTests.test__run_once",
        "test_base_events.BaseEventLoopTests.test__run_once_cancelled_event_cleanup",
        "test_base_events.BaseEventLoopTests.test__run_once_schedule_handle",
        "test_base_events.BaseEventLoopTests.test_custom_run_forever_integration",
        "test_base_events.BaseEventLoopTests.test_set_exc_handler_broken",
        "test_base_events.BaseEventLoopTests.test_set_exc_handler_custom",
        "test_events.EPollEventLoopTests.test_timeout_rounding",
        "test_tasks.*.test_log_destroyed_pending_task",
    ),
    DEAF: (
        "test_base_events.BaseEventLoopTests.test_asyncgen_finalization_by_gc_in_other_thread",
        "test_base_events.BaseEventLoopTests.test_check_thread",
        "test_base_events.BaseEventLoopTests.test_shutdown_default_executor_timeout",
    ),
    MOCKED_SELECTOR: (
        "test_base_events.BaseEventLoopTests.test_run_forever_pre_stopped",
        "test_base_events.BaseEventLoopTests.test_single_selecter_event_callback_after_stopping",
    ),
    MOCKED_SOCKET: (
        "test_base_events.BaseEventLoopWithSelectorTests.test_create_connection_bluetooth",
        "test_base_events.BaseEventLoopWithSelectorTests.test_create_connection_ip_addr",
        "test_base_events.BaseEventLoopWithSelectorTests.test_create_connection_ipv6_scope",
        "test_base_events.BaseEventLoopWithSelectorTests.test_create_connection_no_inet_pton",
        "test_base_events.BaseEventLoopWithSelectorTests.test_create_connection_service_name",
        "test_base_events.BaseEventLoopWithSelectorTests.test_create_server_soreuseport_only_defined",
        "test_sslproto.SslProtoHandshakeTests.test_connection_lost_when_busy",
    ),
    ACCEPT_PARTS: (
        "test_base_events.BaseEventLoopWithSelectorTests.test_accept_connection_exception",
        "test_base_events.BaseEventLoopWithSelectorTests.test_accept_connection_retry",
    ),
    SELECTOR_SENDFILE: (
        "test_unix_events.SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_blocking_error",
        "test_unix_events.SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_cancel1",
        "test_unix_events.SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_cancel2",
        "test_unix_events.SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_exception",
        "test_unix_events.SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_os_error_first_call",
        "test_unix_events.SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_os_error_next_call",
    ),
    MOCKED_OS: (
        "test_unix_events.SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_not_available",
    ),
    STEERED_CLOCK: (
        "test_queues.QueueBasicTests.test_maxsize",
        "test_queues.QueueBasicTests.test_repr",
        "test_queues.QueueBasicTests.test_str",
        "test_queues.QueueGetTests.test_blocking_get_wait",
        "test_queues.QueueGetTests.test_cancelled_getters_not_being_held_in_self_getters",
        "test_queues.QueueGetTests.test_get_cancelled",
        "test_queues.QueuePutTests.test_blocking_put_wait",
        "test_queues.QueuePutTests.test_cancelled_put_silence_value_error_exception",
        "test_queues.QueuePutTests.test_cancelled_puts_not_being_held_in_self_putters",
        "test_queues.QueuePutTests.test_get_cancel_drop_many_pending_readers",
        "test_queues.QueuePutTests.test_get_cancel_drop_one_pending_reader",
        "test_queues.QueuePutTests.test_put_cancel_drop",
        "test_tasks.*.test_as_completed",
        "test_tasks.*.test_as_completed_concurrent",
        "test_tasks.*.test_as_completed_reverse_wait",
        "test_tasks.*.test_as_completed_with_timeout",
        "test_tasks.*.test_as_completed_with_unused_timeout",
        "test_tasks.*.test_baseexception_during_cancel",
        "test_tasks.*.test_cancel",
        "test_tasks.*.test_sleep",
        "test_tasks.*.test_sleep_cancel",
        "test_tasks.*.test_sleep_when_delay_is_nan",
        "test_tasks.*.test_stop_while_run_in_complete",
        "test_tasks.*.test_task_cancel_sleeping_task",
        "test_tasks.*.test_wait",
        "test_tasks.*.test_wait_concurrent_complete",
        "test_tasks.*.test_wait_first_completed",
        "test_tasks.*.test_wait_first_exception",
        "test_tasks.*.test_wait_first_exception_in_wait",
        "test_tasks.*.test_wait_with_exception",
        "test_tasks.*.test_wait_with_iterator_of_tasks",
        "test_tasks.*.test_wait_with_timeout",
    ),
    GARBAGE: (
        "test_futures.*.test_future_del_collect",
        "test_tasks.*.test_task_del_collect",
    ),
    "puts a Handle of CPython's through the private _add_callback, to find it in _ready": (
        "test_base_events.BaseEventLoopTests.test__add_callback_handle",
    ),
    "calls the abstract methods of BaseEventLoop; ours are not abstract": (
        "test_base_events.BaseEventLoopTests.test_not_implemented",
    ),
    "counts the descriptors of a selector loop": (
        "test_events.EPollEventLoopTests.test_internal_fds",
    ),
    "replaces a method of one transport, which a compiled class does not let be done": (
        "test_ssl.TestSSL.test_remote_shutdown_receives_trailing_data_on_slow_socket",
    ),
    "looks at the private _sock of a transport over a mock in the place of a socket": (
        "test_base_events.BaseEventLoopTests.test_create_connection_happy_eyeballs",
        "test_base_events.BaseEventLoopTests.test_create_connection_happy_eyeballs_ipv4_only",
    ),
    "waits until a private attribute of the selector transport says that reading is paused": (
        "test_server_context.AsyncioEventLoopTests.test_gh140947",
    ),
    "mocks the module socket inside asyncio.unix_events": (
        "test_unix_events.SelectorEventLoopUnixSocketTests.test_create_unix_server_bind_error",
    ),
}

# The Python versions that an entry is for, where that is not each of them. A third number: of
# the release that brought the test.
SINCE = {
    "test_base_events.BaseEventLoopTests.test_create_connection_happy_eyeballs": (3, 15),
    "test_base_events.BaseEventLoopTests.test_create_connection_happy_eyeballs_ipv4_only": (3, 15),
    "test_base_events.BaseEventLoopTests.test_custom_run_forever_integration": (3, 13),
    "test_base_events.BaseEventLoopTests.test_shutdown_default_executor_timeout": (3, 13),
    "test_eager_task_factory.CEagerTaskFactoryLoopTests.test_issue105987": (3, 12),
    "test_runners.RunTests.test_loop_factory_default_event_loop": (3, 13),
    "test_runners.RunnerTests.test_custom_factory": (3, 11),
    "test_ssl.TestSSL.test_remote_shutdown_receives_trailing_data_on_slow_socket": (3, 13, 1),
    "test_server_context.AsyncioEventLoopTests.test_gh140947": (3, 15),
    "test_sslproto.SslProtoHandshakeTests.test_connection_lost_when_busy": (3, 13, 1),
    "test_subprocess.GenericWatcherTests": (3, 11),
    "test_subprocess.MultiLoopChildWatcherTests": (3, 12),
    "test_tasks.*.test_sleep_when_delay_is_nan": (3, 13),
    "test_tools": (3, 14),
    "test_unix_events.TestFork.test_fork_not_share_current_task": (3, 14),
    "test_unix_events.TestFork.test_fork_not_share_event_loop": (3, 14),
}

UNTIL = {
    "test_queues.QueueBasicTests.test_repr": (3, 10),
    "test_queues.QueueBasicTests.test_str": (3, 10),
    "test_queues.QueueGetTests.test_get_cancelled": (3, 10),
    "test_subprocess.GenericWatcherTests": (3, 13),
    "test_subprocess.MultiLoopChildWatcherTests": (3, 13),
    "test_subprocess.SubprocessFastWatcherTests": (3, 13),
    "test_subprocess.SubprocessMultiLoopWatcherTests": (3, 11),
    "test_subprocess.SubprocessSafeWatcherTests": (3, 13),
    "test_tasks.CompatibilityTests.test_debug_mode_interop": (3, 10),
    "test_unix_events.AbstractChildWatcherTests": (3, 13),
    "test_unix_events.BaseChildWatcherTests": (3, 13),
    "test_unix_events.FastChildWatcherTests": (3, 13),
    "test_unix_events.PolicyTests": (3, 13),
    "test_unix_events.SafeChildWatcherTests": (3, 13),
}

# The releases whose tests this list was written against; others differ by a few names.
CHECKED_ON = {(3, 10, 13), (3, 11, 7), (3, 12, 1), (3, 13, 0), (3, 14, 8), (3, 15, 2)}


def reason_for(test_id: str) -> str | None:
    """Why `module.Class.test` is left out, or None when it runs."""
    in_force = entries_of(sys.version_info[:3])
    for reason, patterns in TESTS.items():
        for pattern in patterns:
            if pattern in in_force and fnmatch.fnmatchcase(test_id, pattern):
                return reason
    return None


def entries() -> list[str]:
    """All that is left out, as the tables above spell it."""
    tests = (pattern for patterns in TESTS.values() for pattern in patterns)
    return [*MODULES, *CLASSES, *tests]


@functools.cache
def entries_of(version: tuple[int, int, int]) -> frozenset[str]:
    """Those in force on that version of Python."""
    return frozenset(
        entry
        for entry in entries()
        if SINCE.get(entry, version) <= version and version[:2] <= UNTIL.get(entry, version[:2])
    )
