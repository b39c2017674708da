"""What a machine must have so that projects can be mounted: one function for each thing to look at.

Owned here: facts about the machine and what repairs them. Each function takes the paths it reads, and changes nothing.
What is said of a project is in ``diagnosis_project``.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import platform
import re
import resource
import shlex
import shutil
import stat
import sys
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from sigfs.mount.points import probe_all
from sigfs.transports.mounts import FS_TYPE, mounts
from sigfs.version import __version__

State: TypeAlias = Literal["ok", "wrong", "warning", "none"]

CAP_SYS_ADMIN: Final = 21
OLDEST_LINUX: Final = (5, 4)
PASSTHROUGH_LINUX: Final = (6, 9)

LEAST_DESCRIPTORS: Final = 16_384
LEAST_EVENTS: Final = 16_384
"""What the kernel has by default. A storm that overflows the queue costs a comparison of the whole workspace."""

SPARE_INSTANCES: Final = 8
"""A mount takes up to three."""

_PROBE_S: Final = 2.0

PACKAGES: Final = {
    "llfuse": ("llfuse", "the transport llfuse"),
    "fuse": ("fusepy", "the transport fusepy"),
    "h5py": ("h5py", "job.data"),
    "pandas": ("pandas", "tables of jobs in Python"),
}
"""Module -> (package, what it is for)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one look.

    Attributes:
        check: what was looked at.
        state: "wrong" keeps projects from being mounted; "warning": less is possible, or slower; "none": of no
            importance here.
        remedy: a command that repairs it; empty if there is nothing to repair, or no command does.
    """

    check: str
    state: State
    said: str
    remedy: str = ""


def version() -> Finding:
    """Say what runs."""
    python = f"Python {platform.python_version()} ({sys.executable})"
    return Finding("version", "ok", f"sigfs {__version__}, {python}, {platform.system()} {platform.release()}")


def device(path: str = "/dev/fuse", root: str = "/") -> Finding:
    """The device is there, is what it should be, and may be opened.

    Args:
        root: where signs of a container are looked for.
    """
    load = "sudo modprobe fuse"
    if any(os.path.exists(os.path.join(root, name)) for name in (".dockerenv", "run/.containerenv")):
        load = "docker run --device /dev/fuse --cap-add SYS_ADMIN ..."
    try:
        found = os.stat(path)
    except OSError as error:
        return Finding("device", "wrong", f"{path}: {error.strerror}", load)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(10, 229):
        make = f"sudo rm -f {path} && sudo mknod -m 666 {path} c 10 229"
        return Finding("device", "wrong", f"{path} is not the character device 10:229", make)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        remedy = f"sudo chmod 666 {path}" if error.errno == errno.EACCES else load
        return Finding("device", "wrong", f"{path} cannot be opened: {error.strerror}", remedy)
    return Finding("device", "ok", f"{path} can be opened")


def helper(path: str | None, status: str = "/proc/self/status", *, is_root: bool) -> Finding:
    """fusermount3 is there and may do what it is for.

    Args:
        path: where it was found, None if nowhere.
        status: what /proc says of this process.
    """
    if is_root:
        return Finding("fusermount3", "none", "root mounts without it" + (f" (it is {path})" if path else ""))
    if path is None:
        return Finding("fusermount3", "wrong", "not installed: only root can mount", install_command("fuse3"))
    found = os.stat(path)
    quoted = shlex.quote(path)
    if found.st_uid != 0 or not found.st_mode & stat.S_ISUID:
        repair = f"sudo chown root {quoted} && sudo chmod u+s {quoted}"
        return Finding("fusermount3", "wrong", f"{path} is not set-user-id root: only root can mount", repair)
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        where = shlex.quote(_mountpoint_of(path))
        repair = f"sudo mount -o remount,suid {where}"
        return Finding("fusermount3", "wrong", f"{path} is on a file system without set-user-id (nosuid)", repair)
    if _field(status, "NoNewPrivs") == "1":
        said = f"{path} is there, but this process can gain no rights (no_new_privs)"
        return Finding("fusermount3", "wrong", said, "sigfs run PROJECT -- COMMAND")
    return Finding("fusermount3", "ok", f"{path} is set-user-id root")


def allow_other(path: str = "/etc/fuse.conf", *, is_root: bool) -> Finding:
    """Ordinary users may let others into their mounts."""
    if is_root:
        return Finding("allow_other", "none", "root may always let others in")
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        if any(line.strip() == "user_allow_other" for line in file):
            return Finding("allow_other", "ok", f"{path} has user_allow_other")
    return Finding(
        "allow_other",
        "warning",
        f"{path} has no user_allow_other: -o allow_other is refused to you",
        f"echo user_allow_other | sudo tee -a {path}",
    )


def kernel(release: str | None = None) -> Finding:
    """Linux is new enough for the transport ``kernel``."""
    release = release or os.uname().release
    if _version(release) < OLDEST_LINUX:
        remedy = f"{sys.executable} -m pip install llfuse; sigfs mount -o transport=llfuse PROJECT MNT"
        return Finding(
            "kernel", "wrong", f"Linux {release} is older than 5.4, which the transport kernel needs", remedy
        )
    return Finding("kernel", "ok", f"Linux {release}")


def passthrough(
    release: str | None = None,
    status: str = "/proc/self/status",
    uid_map: str = "/proc/self/uid_map",
    boot: str = "/boot",
) -> Finding:
    """The kernel can read and write files below without asking the server, and this user may have it so."""
    release = release or os.uname().release
    if _version(release) < PASSTHROUGH_LINUX:
        return Finding("passthrough", "none", f"Linux {release} has none; it came with 6.9")
    with contextlib.suppress(OSError), open(f"{boot}/config-{release}", encoding="utf-8", errors="replace") as file:
        if "CONFIG_FUSE_PASSTHROUGH=y" not in file.read():
            return Finding("passthrough", "none", f"Linux {release} was built without CONFIG_FUSE_PASSTHROUGH")
    effective = int(_field(status, "CapEff") or "0", 16)
    if not effective >> CAP_SYS_ADMIN & 1 or not _is_initial(uid_map):
        return Finding(
            "passthrough",
            "none",
            f"Linux {release} has it, for those with CAP_SYS_ADMIN: root, or a service with "
            "AmbientCapabilities=CAP_SYS_ADMIN",
        )
    return Finding("passthrough", "ok", f"Linux {release} has it, and you may use it")


def user_namespaces(sysctl: str = "/proc/sys", *, is_root: bool) -> Finding:
    """Ordinary users may make user namespaces, which ``sigfs run`` needs."""
    if is_root:
        return Finding("user namespaces", "none", "root needs none")
    for name, refused, want, why in (
        ("user.max_user_namespaces", 0, 15000, "there may be none"),
        ("kernel.unprivileged_userns_clone", 0, 1, "only root may make one"),
        ("kernel.apparmor_restrict_unprivileged_userns", 1, 0, "AppArmor restricts them"),
    ):
        if _number(os.path.join(sysctl, *name.split("."))) == refused:
            return Finding(
                "user namespaces",
                "warning",
                f"{name} is {refused}: {why}, so that sigfs run does not work for ordinary users",
                _sysctl(name, want),
            )
    return Finding("user namespaces", "ok", "ordinary users may make them")


def apparmor(etc: str = "/etc/apparmor.d", module: str = "/sys/module/apparmor", *, is_root: bool) -> Finding:
    """No profile of AppArmor keeps fusermount3 from mounting where one wants."""
    profile = os.path.join(etc, "fusermount3")
    enabled = ""
    with contextlib.suppress(OSError), open(f"{module}/parameters/enabled", encoding="ascii") as file:
        enabled = file.read().strip()
    if enabled != "Y" or not os.path.exists(profile) or os.path.lexists(os.path.join(etc, "disable", "fusermount3")):
        return Finding("AppArmor", "ok", "it does not restrict fusermount3")
    if is_root:
        return Finding("AppArmor", "none", f"{profile} restricts fusermount3, without which root mounts")
    rules = r"mount fstype=@{fuse_types} options=(nosuid,nodev,rw) -> /DIRECTORY/**/,\numount /DIRECTORY/**/,\n"
    return Finding(
        "AppArmor",
        "warning",
        f"{profile} lets fusermount3 mount only in some places (your home, /mnt, /media, /tmp, $XDG_RUNTIME_DIR); "
        "elsewhere it fails with Permission denied",
        f"printf '{rules}' | sudo tee -a {etc}/local/fusermount3 && sudo apparmor_parser -r {profile}",
    )


def inotify(
    jobs: int | None = None, sysctl: str = "/proc/sys/fs/inotify", proc: str = "/proc", *, is_root: bool
) -> list[Finding]:
    """The limits of inotify suffice for a project.

    Args:
        jobs: how many it has; None: that is not known.
        is_root: who follows documents by fanotify, which needs no watch for each.
    """
    from sigfs.watch.inotify import MAX_DOCUMENT_WATCHES, SHARE_OF_WATCHES

    found = []
    watches = _number(f"{sysctl}/max_user_watches")
    if watches is None:
        return [Finding("inotify", "warning", f"{sysctl} cannot be read: changes may be found by looking only")]
    wanted = min(jobs or 0, MAX_DOCUMENT_WATCHES) * SHARE_OF_WATCHES
    said = f"fs.inotify.max_user_watches is {watches}, of which sigfs takes a quarter at most"
    if jobs is not None and not is_root and watches < wanted:
        said += f": too few to hear of the documents of {jobs} jobs, which are looked at now and then instead"
        found.append(Finding("inotify watches", "warning", said, _sysctl("fs.inotify.max_user_watches", wanted)))
    else:
        enough = f", enough for {jobs} jobs" if jobs is not None else ""
        found.append(Finding("inotify watches", "ok", said + enough))
    instances, used = _number(f"{sysctl}/max_user_instances"), _instances(proc)
    if instances is not None:
        said = f"fs.inotify.max_user_instances is {instances}, of which you use {used}"
        if used + SPARE_INSTANCES > instances:
            remedy = _sysctl("fs.inotify.max_user_instances", max(512, 2 * instances))
            found.append(Finding("inotify instances", "warning", said, remedy))
        else:
            found.append(Finding("inotify instances", "ok", said))
    events = _number(f"{sysctl}/max_queued_events")
    if events is not None:
        said = f"fs.inotify.max_queued_events is {events}"
        if events < LEAST_EVENTS:
            remedy = _sysctl("fs.inotify.max_queued_events", LEAST_EVENTS)
            found.append(Finding("inotify queue", "warning", f"{said}: a storm of changes overflows it", remedy))
        else:
            found.append(Finding("inotify queue", "ok", said))
    return found


def stale_mounts() -> list[Finding]:
    """No mount of sigfs is left whose server is gone or hangs."""
    places = list(dict.fromkeys(mount.mountpoint for mount in mounts() if mount.type == FS_TYPE))
    found = []
    for place, answer in zip(places, probe_all(places, _PROBE_S), strict=True):
        quoted = shlex.quote(place)
        if answer.health == "dead":
            said = f"{place}: its server is gone"
            found.append(Finding("mounts", "warning", said, f"sigfs umount {quoted}"))
        elif answer.health == "hung":
            said = f"{place}: its server does not answer; before it is taken away, see sigfs log {quoted}"
            found.append(Finding("mounts", "warning", said, f"sigfs umount --lazy {quoted}"))
    return found or [
        Finding("mounts", "ok", f"{len(places)} mounted, and all answer" if places else "nothing is mounted")
    ]


def descriptors(limits: tuple[int, int] | None = None) -> Finding:
    """A server may have as many files open as programs in the mount want."""
    _, hard = limits or resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < LEAST_DESCRIPTORS:
        return Finding(
            "open files",
            "warning",
            f"a process of yours may have {hard} files open; each that is open in a mount is one",
            f"echo '* hard nofile {1 << 20}' | sudo tee /etc/security/limits.d/60-sigfs.conf  # and log in again",
        )
    most = "any number of" if hard == resource.RLIM_INFINITY else str(hard)
    return Finding("open files", "ok", f"a process of yours may have {most} files open")


def packages() -> list[Finding]:
    """Which optional packages are there."""
    found = []
    for module, (package, use) in PACKAGES.items():
        if importlib.util.find_spec(module) is not None:
            found.append(Finding(package, "ok", f"installed, for {use}"))
        else:
            install = f"{shlex.quote(sys.executable)} -m pip install {package}"
            found.append(Finding(package, "none", f"not installed; it is for {use}", install))
    return found


def updatedb(path: str = "/etc/updatedb.conf") -> Finding:
    """``updatedb`` does not walk mounts."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except FileNotFoundError:
        return Finding("updatedb", "none", f"there is no {path}")
    except OSError as error:
        return Finding("updatedb", "warning", f"{path}: {error.strerror}")
    names = re.search(r'^\s*PRUNEFS\s*=\s*"([^"]*)"', text, re.MULTILINE)
    if names is not None and FS_TYPE in names[1].casefold().split():
        return Finding("updatedb", "ok", f"{path} has {FS_TYPE} among PRUNEFS")
    add = rf"""sudo sed -i 's/^\(\s*PRUNEFS\s*=\s*"\)/\1{FS_TYPE} /' {path}"""
    if names is None:
        add = f"""echo 'PRUNEFS="{FS_TYPE}"' | sudo tee -a {path}"""
    return Finding("updatedb", "warning", f"updatedb walks all mounts that root may enter, every night: {path}", add)


def install_command(package: str) -> str:
    """Give the command by which this system installs a package."""
    for program, words in (
        ("apt-get", "apt-get install"),
        ("dnf", "dnf install"),
        ("zypper", "zypper install"),
        ("pacman", "pacman -S"),
        ("apk", "apk add"),
    ):
        if shutil.which(program):
            return f"sudo {words} {package}"
    return f"install the package {package}"


def _sysctl(name: str, value: int) -> str:
    return f"echo {name}={value} | sudo tee -a /etc/sysctl.d/60-sigfs.conf && sudo sysctl --system"


def _number(path: str) -> int | None:
    """Read a file that holds a number; None if there is none."""
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _field(path: str, name: str) -> str:
    """Give a field of /proc/PID/status; empty if there is none."""
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith(f"{name}:"):
                return line.partition(":")[2].strip()
    return ""


def _version(release: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", release)[:2])


def _is_initial(uid_map: str) -> bool:
    """Tell whether all users there are, are: then this is no user namespace."""
    with contextlib.suppress(OSError), open(uid_map, encoding="ascii") as file:
        return file.read().split() == ["0", "0", str((1 << 32) - 1)]
    return True


def _instances(proc: str) -> int:
    """Count the inotify instances of this user's processes, as far as they may be looked into."""
    count = 0
    for pid in filter(str.isdigit, os.listdir(proc)):
        with contextlib.suppress(OSError):
            if os.stat(f"{proc}/{pid}").st_uid != os.getuid():
                continue
            for fd in os.listdir(f"{proc}/{pid}/fd"):
                with contextlib.suppress(OSError):
                    count += os.readlink(f"{proc}/{pid}/fd/{fd}") == "anon_inode:inotify"
    return count


def _mountpoint_of(path: str) -> str:
    path = os.path.realpath(path)
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path
