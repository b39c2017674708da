"""The units under systemd itself, as PID 1 of namespaces of the test's own.

Only with SIGFS_TEST_SYSTEMD=1, as root, on a machine that has systemd and cgroup2: it takes half a minute, and what it
shows are the units, which change seldom. /run, /tmp and /var/tmp are its own, and all else is read-only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import ROOT, require
from tests.support.wait import wait_until

CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")

BEGIN = r"""
python=$1 packages=$2 root=$3
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/src /run/python /run/packages /run/home
mount --bind "$python" /run/python
mount --bind "$packages" /run/packages
cp -r "$root/sigfs" /run/src/
cp "$root/systemd/sigfs@.service" /run/systemd/system/
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /var/tmp
umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mknod -m 666 /run/fuse c 10 229
mount --bind /run/fuse /dev/fuse
mount -o remount,bind,ro /
printf '[Unit]\nDefaultDependencies=no\n' >/run/systemd/system/only.target
for unit in journald.socket journald-dev-log.socket journald.service tmpfiles-setup.service tmpfiles-clean.timer; do
    ln -s /dev/null "/run/systemd/system/systemd-$unit"
done
exec env -i container=other PATH=/usr/bin:/bin:/usr/sbin:/sbin \
    /lib/systemd/systemd --system --unit=only.target --log-target=console --show-status=no
"""

SCRIPT = r"""
python=/run/python/$1 variables="PYTHONPATH=/run/src:/run/packages XDG_CONFIG_HOME=/run/config HOME=/run/home"
show() { name=$1; shift; echo "$name=$*"; }
of() { systemctl show -P "$2" "sigfs@$1"; }
until_is() {
    for _ in $(seq 600); do [ "$(of "$1" "$2")" = "$3" ] && return; sleep 0.1; done
    echo "$*: $(of "$1" "$2")"
}
status() { getfattr --absolute-names --only-values -n user.sigfs.status "$1"; }

mkdir -p /run/config/sigfs/mounts /run/systemd/system/sigfs@.service.d /run/systemd/system/sigfs@user.service.d
for name in root user; do
    mkdir -p /run/$name/project/.signac /run/$name/project/workspace /run/$name/mnt
    echo 'schema_version = 2' >/run/$name/project/.signac/config
    (cd /run/$name/project && env $variables "$python" -m sigfs job a=1 >/dev/null)
    printf 'project = "%s"\nmountpoint = "%s"\nallow_other = true\n' /run/$name/project /run/$name/mnt \
        >/run/config/sigfs/mounts/$name.toml
done
chown -R 65534:65534 /run/user /run/home
cat >/run/systemd/system/sigfs@.service.d/here.conf <<X
[Service]
ExecStart=
ExecStart=$python -P -m sigfs mount --profile %i --foreground
Environment=$variables
RestartSec=1
WatchdogSec=2
StandardOutput=null
StandardError=null
X
printf '[Service]\nUser=nobody\nAmbientCapabilities=CAP_SYS_ADMIN\n' >/run/systemd/system/sigfs@user.service.d/a.conf
systemctl daemon-reload

systemctl start sigfs@root
show listed "$(ls /run/root/mnt)"
show status "$(of root StatusText)"
show passthrough "$(status /run/root/mnt | grep -o '"passthrough": [a-z]*')"
systemctl reload sigfs@root
until_is root ActiveState active
first=$(of root MainPID)
kill -KILL "$first"
until_is root NRestarts 1
until_is root SubState running
show after-kill "$(ls /run/root/mnt)"
second=$(of root MainPID)
kill -STOP "$second"
until_is root NRestarts 2
until_is root SubState running
show after-hang "$(ls /run/root/mnt)"
umount /run/root/mnt
until_is root ActiveState inactive
show result "$(of root Result)"

systemctl start sigfs@user
show user "$(status /run/user/mnt | grep -o '"passthrough": [a-z]*')"
echo x >/run/user/mnt/a/1/file 2>/dev/null || echo x >"$(echo /run/user/mnt/.jobs/*)/file"
show owner "$(stat -c %u /run/user/project/workspace/*/file)"
systemctl stop sigfs@user
show left "$(findmnt -n -o TARGET -t fuse.sigfs | grep -c ^/run/)"
show end
"""


@pytest.fixture
def pid() -> Iterator[int]:
    """Boot; give the number of systemd's process."""
    if os.environ.get("SIGFS_TEST_SYSTEMD") != "1":
        pytest.skip("SIGFS_TEST_SYSTEMD=1 has it run")
    if os.geteuid() != 0 or not os.path.exists("/lib/systemd/systemd") or shutil.which("getfattr") is None:
        pytest.skip("needs root, systemd and getfattr")
    above = next((Path(path) for path in CGROUPS if os.path.exists(f"{path}/cgroup.procs")), None)
    if above is None:
        pytest.skip("there is no cgroup2")
    require("kernel")
    group = above / f"sigfs-test-{os.getpid()}"
    group.mkdir()
    arguments = (os.path.realpath(sys.base_prefix), sysconfig.get_path("purelib"), ROOT)
    command = f'echo $$ >{group}/cgroup.procs; exec unshare --mount --pid --fork --kill-child --cgroup sh -ec "$@"'
    process = subprocess.Popen(
        ["sh", "-c", command, "sh", BEGIN, "sh", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        found = wait_until(lambda: children.read_text().split())
        wait_until(lambda: os.path.exists(f"/proc/{found[0]}/root/run/systemd/private"))
        yield int(found[0])
    finally:
        process.kill()
        process.wait(60)
        wait_until(lambda: not (group / "cgroup.events").read_text().startswith("populated 1"))
        for directory, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)


def test_the_systems_unit_starts_watches_reloads_restarts_and_ends_a_mount(pid: int) -> None:
    python = os.path.relpath(os.path.realpath(sys.executable), os.path.realpath(sys.base_prefix))
    done = subprocess.run(
        ["nsenter", "-t", str(pid), "-m", "-p", "-C", "sh", "-c", SCRIPT, "sh", python],
        capture_output=True,
        text=True,
        timeout=170,
    )
    said = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert said == {
        "listed": "a", "status": "/run/root/project on /run/root/mnt: 1 jobs, 0 files open",
        "passthrough": '"passthrough": true', "after-kill": "a", "after-hang": "a", "result": "success",
        "user": '"passthrough": true', "owner": "65534", "left": "0", "end": "",
    }, done.stdout + done.stderr  # fmt: skip
