"""Commands run one after the other, or several at a time, with the signals that are meant for them.

Owned here: what becomes of signals. Those of a terminal go to the whole group of processes, and so to the commands
already; those that are sent to this process alone are passed on. When a command that runs alone stops, as by Ctrl-Z, so
does this process, and when this process goes on, so does the command.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from sigfs.cli.exits import Exit, exit_code

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_PASSED: Final = (*_ENDING, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTSTP, signal.SIGCONT)


class Task(NamedTuple):
    """Where a command is to be run, and what its environment is."""

    directory: str
    environment: Mapping[str, str]


class Outcome(NamedTuple):
    """How the commands ended.

    Attributes:
        codes: exit codes by the number of the task, 128 and the signal's number if one ended it; those that were begun.
        stopped_by: the signal that has kept further ones from being begun; 0 if none has.
    """

    codes: dict[int, int]
    stopped_by: int


def run_all(
    tasks: Iterable[Callable[[], Task]],
    command: Sequence[str],
    parallel: int,
    keep_going: bool,
    failed: Callable[[int, int, Exception | None], None],
    stdout: int | None = None,
    prepare: Callable[[], None] | None = None,
) -> Outcome:
    """Run *command* for each task, *parallel* of them at a time, until one fails or all are done.

    With one at a time, it reads the standard input of this process, otherwise none. To be called from the main thread.

    Args:
        tasks: functions that give a task, or raise: then it has failed with the code of that exception.
        failed: is told the number of a task, its exit code and the exception if it could not be run.
        stdout: descriptor of the commands' standard output; default: that of this process.
        prepare: called in each new process before the command is run there.
    """
    run = _Run(command, parallel, keep_going, failed, stdout, prepare)
    try:
        return run.all(tasks)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, run.mask)


class _Run:
    def __init__(
        self,
        command: Sequence[str],
        parallel: int,
        keep_going: bool,
        failed: Callable[[int, int, Exception | None], None],
        stdout: int | None,
        prepare: Callable[[], None] | None,
    ) -> None:
        self.prepare = prepare
        self.command = command
        self.parallel = parallel
        self.keep_going = keep_going
        self.failed = failed
        self.stdout = stdout
        self.codes: dict[int, int] = {}
        self.running: dict[int, subprocess.Popen[bytes]] = {}
        self.stopped_by = 0
        self.passed = {number for number in _PASSED if signal.getsignal(number) is not signal.SIG_IGN}
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # They are waited for, so that none can come in between.
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*self.passed, signal.SIGCHLD})

    def all(self, tasks: Iterable[Callable[[], Task]]) -> Outcome:
        waiting = enumerate(tasks)
        while True:
            while len(self.running) < self.parallel and self.goes_on():
                following = next(waiting, None)
                if following is None:
                    break
                self.begin(*following)
            if not self.running:
                return Outcome(self.codes, self.stopped_by)
            self.take(signal.sigwaitinfo({*self.passed, signal.SIGCHLD}))

    def goes_on(self) -> bool:
        return not self.stopped_by and (self.keep_going or not any(self.codes.values()))

    def begin(self, number: int, make: Callable[[], Task]) -> None:
        try:
            task = make()
        except Exception as error:  # noqa: BLE001 - it is of this task alone, and told
            self.end(number, exit_code(error), error)
            return
        try:
            self.running[number] = subprocess.Popen(
                self.command,
                cwd=task.directory,
                env=task.environment,
                stdin=None if self.parallel == 1 else subprocess.DEVNULL,
                stdout=self.stdout,
                close_fds=False,  # what whoever started us has left open is for the command, as make's job server
                preexec_fn=self.in_child,  # noqa: PLW1509 - there is no other thread
            )
        except OSError as error:
            code = Exit.NO_COMMAND if error.errno == errno.ENOENT else Exit.NOT_EXECUTABLE
            self.end(number, Exit.JOB if error.filename == task.directory else code, error)

    def in_child(self) -> None:
        for number in self.passed:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        if self.prepare is not None:
            self.prepare()

    def take(self, received: signal.struct_siginfo) -> None:
        for number, process in list(self.running.items()):
            if received.si_signo == signal.SIGCHLD:
                code = process.poll()
                if code is not None:
                    del self.running[number]
                    self.end(number, code if code >= 0 else 128 - code)
                elif self.parallel == 1:
                    self.stop_with(process.pid)
            elif received.si_code <= 0:  # sent by a process, and not by the terminal
                process.send_signal(received.si_signo)
        if received.si_signo in _ENDING:
            self.stopped_by = received.si_signo

    def stop_with(self, pid: int) -> None:
        """Stop if the process *pid* has, as a shell that started this one expects; not if nobody could continue it."""
        stopped = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG)
        if stopped is None or (stopped.si_status == signal.SIGSTOP and not os.isatty(0)):
            return
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTSTP})
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.pthread_sigmask(signal.SIG_BLOCK, self.passed & {signal.SIGTSTP})

    def end(self, number: int, code: int, error: Exception | None = None) -> None:
        self.codes[number] = code
        if code:
            self.failed(number, code, error)
