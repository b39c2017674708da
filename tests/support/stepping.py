"""A process is stopped at each of its system calls that change something, and what it leaves is looked at.

``kill_at_each_call`` kills it there, before the call is done; ``fail_at_each_call`` lets the call fail, in one run
each. Both take module-level functions of one argument, a directory: *prepare* fills it, *act* is what is
stopped, *look* raises if what it finds is not right. They run in a process of their own without threads, which forks
for each run and follows the child with ptrace(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import platform
import shutil
import signal
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence

from tests.support.outcome import unavailable

Step = Callable[[str], object]

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Calls that change a file system. On a machine that is not in the table every call counts: slower, and as thorough.
CHANGING = {
    "x86_64": {
        1: "write", 2: "open", 16: "ioctl", 18: "pwrite64", 20: "writev", 40: "sendfile", 74: "fsync",
        75: "fdatasync", 76: "truncate", 77: "ftruncate", 82: "rename", 83: "mkdir", 84: "rmdir", 85: "creat",
        86: "link", 87: "unlink", 88: "symlink", 90: "chmod", 91: "fchmod", 92: "chown", 93: "fchown", 94: "lchown",
        133: "mknod", 188: "setxattr", 189: "lsetxattr", 190: "fsetxattr", 197: "removexattr", 198: "lremovexattr",
        199: "fremovexattr", 257: "openat", 258: "mkdirat", 259: "mknodat", 260: "fchownat", 263: "unlinkat",
        264: "renameat", 265: "linkat", 266: "symlinkat", 268: "fchmodat", 280: "utimensat", 285: "fallocate",
        296: "pwritev", 316: "renameat2", 326: "copy_file_range", 437: "openat2", 452: "fchmodat2",
    },
}  # fmt: skip
_FLAGS_AT = {"open": 1, "openat": 2}  # which argument says whether it creates
_NEVER_CREATES = "openat2"  # as this package uses it
_FICLONE = 0x40049409

_CALL_LIMIT = 5000  # of one act; more than that is an endless loop

_TRACEME, _SYSCALL, _SETOPTIONS, _POKEUSER, _GET_SYSCALL_INFO = 0, 24, 0x4200, 6, 0x420E
_TRACESYSGOOD, _TRACEFORK, _TRACEVFORK, _TRACECLONE, _EXITKILL = 1, 2, 4, 8, 0x100000
_UNTRACEABLE = 77  # exit status
_WALL = 0x40000000
_ENTRY, _EXIT = 1, 2
_INFO = struct.Struct("=B3xIQQ7Q")  # op, architecture, instruction, stack, number, six arguments
_RAX, _ORIG_RAX = 10 * 8, 15 * 8  # places in x86_64's struct user_regs_struct


def kill_at_each_call(prepare: Step, act: Step, look: Step, directory: object) -> list[str]:
    """Kill -9 *act* before its first, second, ... call that changes something; the last run is left alone.

    Returns:
        The names of the calls that it was killed at, in order.
    Raises:
        AssertionError: *look* raised; says at which call, and its traceback.
    """
    return _run("kill", prepare, act, look, directory)


def fail_at_each_call(code: int, prepare: Step, act: Step, look: Step, directory: object) -> list[str]:
    """Let each call of *act* that changes something fail with errno *code* in turn; otherwise as `kill_at_each_call`.

    *act* may raise OSError.
    """
    if platform.machine() not in CHANGING:
        unavailable(f"calls cannot be made to fail on {platform.machine()}")
    return _run(str(code), prepare, act, look, directory)


def _run(how: str, prepare: Step, act: Step, look: Step, directory: object) -> list[str]:
    names = [f"{step.__module__}:{step.__qualname__}" for step in (prepare, act, look)]
    command = [sys.executable, "-m", "tests.support.stepping", how, *names, str(directory)]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode == _UNTRACEABLE:
        unavailable("processes cannot be traced here")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    calls: list[str] = json.loads(done.stdout.splitlines()[-1])
    return calls


def _main(how: str, prepare: str, act: str, look: str, directory: str) -> None:
    steps = [_function(name) for name in (prepare, act, look)]
    calls: list[str] = []
    while len(calls) < _CALL_LIMIT:
        path = os.path.join(directory, f"step-{len(calls)}")
        os.mkdir(path)
        steps[0](path)
        call = _stop(lambda: steps[1](path), len(calls), None if how == "kill" else int(how))  # noqa: B023 - used at once
        try:
            steps[2](path)
        except BaseException:  # noqa: BLE001 - told to the test
            where = "with no call disturbed" if call is None else f"stopped at call {len(calls)}, {call}"
            sys.exit(f"{where} (after {', '.join(calls[-5:])}), see {path}\n{traceback.format_exc()}")
        shutil.rmtree(path)
        if call is None:
            print(json.dumps(calls))
            return
        calls.append(call)
    sys.exit(f"{act} does not end")


def _function(name: str) -> Step:
    module, _, qualname = name.partition(":")
    step: Step = getattr(importlib.import_module(module), qualname)
    return step


def _stop(act: Callable[[], object], number: int, code: int | None) -> str | None:
    """Run *act* in a child and stop it at its changing call *number*, counted from 0; give the name of the call.

    None if it has fewer, and then it has to succeed.
    """
    child = os.fork()
    if child == 0:
        _be_traced(act, code is not None)
    _, status = os.waitpid(child, 0)
    if not os.WIFSTOPPED(status):
        sys.exit(_UNTRACEABLE)
    _ptrace(_SETOPTIONS, child, _TRACESYSGOOD | _TRACEFORK | _TRACEVFORK | _TRACECLONE | _EXITKILL)
    _ptrace(_SYSCALL, child, 0)
    seen = 0
    stopped: str | None = None
    failing = 0  # the process or thread whose call is to fail
    alive = {child}
    while alive:
        pid, status = os.waitpid(-1, _WALL)
        if not os.WIFSTOPPED(status):
            alive.discard(pid)
            if pid == child and os.waitstatus_to_exitcode(status) != (0 if code is not None or stopped is None else -9):
                sys.exit(f"ended with {os.waitstatus_to_exitcode(status)}, after {seen} calls")
            continue
        alive.add(pid)
        sent = os.WSTOPSIG(status)
        deliver = 0
        if sent == signal.SIGTRAP | 0x80:
            operation, name = _call_at(pid)
            if operation == _ENTRY and name:
                if seen == number:
                    stopped = name
                    if code is None:
                        for each in alive:
                            with contextlib.suppress(ProcessLookupError):
                                os.kill(each, signal.SIGKILL)
                        seen += 1
                        continue
                    _ptrace(_POKEUSER, pid, -1, _ORIG_RAX)
                    failing = pid
                seen += 1
            elif operation == _EXIT and pid == failing:
                _ptrace(_POKEUSER, pid, -(code or 0), _RAX)
                failing = 0
        elif sent not in {signal.SIGTRAP, signal.SIGSTOP}:
            deliver = sent
        with contextlib.suppress(ProcessLookupError):
            _ptrace(_SYSCALL, pid, deliver)
    return stopped


def _be_traced(act: Callable[[], object], may_fail: bool) -> None:
    status = 1
    try:
        if _libc.ptrace(_TRACEME, 0, None, None):
            os._exit(_UNTRACEABLE)
        os.kill(os.getpid(), signal.SIGSTOP)
        try:
            act()
            status = 0
        except OSError:
            if not may_fail:
                raise
            status = 0
    except BaseException:  # noqa: BLE001 - the child ends here
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _call_at(pid: int) -> tuple[int, str | None]:
    """Whether *pid* stands before or after a call, and the name of that if it changes something."""
    buffer = ctypes.create_string_buffer(_INFO.size)
    try:
        _ptrace(_GET_SYSCALL_INFO, pid, ctypes.addressof(buffer), _INFO.size)
    except ProcessLookupError:
        return 0, None
    operation, _, _, _, number, *arguments = _INFO.unpack(buffer.raw)
    if operation != _ENTRY:
        return operation, None
    table = CHANGING.get(platform.machine())
    if table is None:
        return operation, str(number)
    name = table.get(number)
    if (name in _FLAGS_AT and not arguments[_FLAGS_AT[name]] & os.O_CREAT) or name == _NEVER_CREATES:
        return operation, None
    if name == "ioctl" and arguments[1] & 0xFFFFFFFF != _FICLONE:
        return operation, None
    if name in {"write", "writev"} and arguments[0] in (1, 2):
        return operation, None
    return operation, name


def _ptrace(request: int, pid: int, data: int, address: int = 0) -> None:
    ctypes.set_errno(0)
    if _libc.ptrace(request, pid, ctypes.c_void_p(address), ctypes.c_void_p(data)) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def every_call(calls: Sequence[str], *expected: str) -> None:
    """Assert that the calls it is about were among those, so that a table that lacks one does not pass silently."""
    missing = set(expected) - set(calls) if platform.machine() in CHANGING else set()
    assert not missing, f"never stopped at {missing}, only at {sorted(set(calls))}"


if __name__ == "__main__":
    _main(*sys.argv[1:])
