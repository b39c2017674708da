"""mount(8), fstab and findmnt with a sigfs mount: through the helper, and as systems do that have none.

All of it in a mount namespace of the test's own, whose /sbin has nothing but the helpers.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess

import pytest

from tests.support.drivers import STATEPOINTS
from tests.support.outcome import unavailable
from tests.support.projects import make_project
from tests.support.server import require
from tests.support.users import ordinary_user
from tests.support.wait import wait_until

SCRIPT = r"""
python=$1 project=$2 mnt=$3 user=$4 uid=$5 gid=$6
show() { name=$1; shift; echo "$name=$*"; }
code() { name=$1; shift; "$@" >/dev/null; echo "$name=$?"; }
sigfs() { $python -m sigfs "$@"; }
as_user() { setpriv --reuid="$uid" --regid="$gid" --clear-groups "$@"; }
options() { findmnt -n -o OPTIONS -t fuse.sigfs "$mnt"; }
has() { case ",$(options)," in *,$1,*) echo yes ;; *) echo no ;; esac; }

cp -a "$(command -v mount.fuse3)" "$mnt.helper" || exit 9
mount -t tmpfs none "$(realpath /sbin)"
mv "$mnt.helper" /sbin/mount.fuse3
ln -s mount.fuse3 /sbin/mount.fuse
sigfs install-helper >/dev/null

# the helper, with nothing in the environment but what this Python needs
bare() { env -i PYTHONPATH="$PYTHONPATH" /usr/bin/mount "$@"; }
code first bare -t sigfs -o ro,_netdev,nofail,x-a,layout=full "$project" "$mnt"
show source "$(findmnt -n -o SOURCE -t fuse.sigfs "$mnt")"
show df "$(df --output=source "$mnt" | tail -n 1)"
show listed "$(ls "$mnt")"
code other mount -o remount,rw,layout=hive "$mnt"
code writable mount -o remount,rw "$mnt"
code touched touch "$mnt/n/0/file"
code readonly sigfs mount -o remount,ro "$mnt"
code refused touch "$mnt/n/0/other"
show nosuid "$(has nosuid)"
code umount sigfs umount "$mnt"

# fstab
sigfs mount --print-fstab -r "$project" "$mnt" >"$mnt.fstab"
code all mount -a -T "$mnt.fstab"
code again mount -a -T "$mnt.fstab"
show mounts "$(findmnt -n -o TARGET -t fuse.sigfs | grep -c "^$mnt\$")"
code umount2 sigfs umount "$mnt"
code missing mount -t sigfs /nowhere "$mnt"
code nofail mount -t sigfs -o nofail /nowhere "$mnt"
code unknown mount -t sigfs -o frobnicate "$project" "$mnt"
code fake mount -f -t sigfs "$project" "$mnt"
show faked "$(options)"

# another mount namespace
unshare --mount sleep 600 &
other=$!
while [ "$(readlink /proc/$other/ns/mnt)" = "$(readlink /proc/self/ns/mnt)" ]; do sleep 0.05; done
code namespace mount -N "$other" -t sigfs "$project" "$mnt"
show outside "$(options)"
show inside "$(nsenter -t "$other" -m ls "$mnt")"
code leave nsenter -t "$other" -m umount "$mnt"
kill $other

# as somebody else
code setuid mount -t fuse.sigfs -o "setuid=$user" "$project" "$mnt"
show owner "$(has user_id=$uid)"
code umount3 as_user $python -m sigfs umount "$mnt"
as_user $python -m sigfs mount --print-fstab "$project" "$mnt" >"$mnt.fstab"
mount --bind "$mnt.fstab" /etc/fstab
code user as_user mount "$mnt"
show owner2 "$(has user_id=$uid)"
show noexec "$(has noexec)"
code umount4 as_user umount "$mnt"

# neither root nor fusermount3, but the right to mount
may() { as_user --no-new-privs --inh-caps=+sys_admin --ambient-caps=+sys_admin "$@"; }
code capable may $python -m sigfs mount -q -o allow_other "$project" "$mnt"
show owner4 "$(has user_id=$uid)"
code umount7 may $python -m sigfs umount "$mnt"

# no helper: mount.fuse3 runs what it finds as sigfs where no PATH leads
sigfs install-helper --remove >/dev/null
printf '#!/bin/sh\nexec %s -m sigfs "$@"\n' "$python" >/sbin/sigfs
chmod 755 /sbin/sigfs
code plain bare -t fuse.sigfs -o ro,_netdev,noexec "$project" "$mnt"
show plain-noexec "$(has noexec)"
code plain-rw bare -o remount,rw "$mnt"
show plain-is-rw "$(has rw)"
code umount5 sigfs umount "$mnt"
code plain-setuid bare -t fuse.sigfs -o "setuid=$user" "$project" "$mnt"
show owner3 "$(has user_id=$uid)"
code umount6 as_user $python -m sigfs umount "$mnt"
"""


@pytest.mark.user
def test_mount_knows_the_types_sigfs_and_fuse_sigfs() -> None:
    if os.geteuid() != 0:
        unavailable("only root can make a user")
    for program in ("useradd", "setpriv", "unshare", "findmnt", "mount.fuse3", "fusermount3"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/sbin:/usr/sbin") is None:
            unavailable(f"there is no {program}")
    require("kernel")
    with ordinary_user() as user:
        project = make_project(f"{user.home}/my project", *STATEPOINTS)
        mountpoint = f"{user.home}/mnt"
        os.mkdir(mountpoint)
        subprocess.run(["chown", "-R", f"{user.uid}:{user.gid}", project, mountpoint], check=True)
        os.chmod(user.home, 0o755)
        name = pwd.getpwuid(user.uid).pw_name
        environment = {**user.environment, "PYTHONPATH": f"{user.repository}:{user.base}/packages"}
        del environment["XDG_RUNTIME_DIR"]
        arguments = (user.python, project, mountpoint, name, str(user.uid), str(user.gid))
        # Whatever becomes of it, nothing of it is left running.
        alone = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        command = [*alone, *user.in_namespace("sh", "-c", SCRIPT, "sh", *arguments)]
        done = subprocess.run(
            command, cwd=user.repository, env=environment, capture_output=True, text=True, timeout=170
        )
        wait_until(lambda: subprocess.run(["pgrep", "-u", str(user.uid)], capture_output=True).returncode != 0)
    said = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    expected = {
        "first": "0", "source": project, "df": project, "listed": "n", "other": "1", "writable": "0", "touched": "0",
        "readonly": "0", "refused": "1", "nosuid": "yes", "umount": "0",
        "all": "0", "again": "0", "mounts": "1", "umount2": "0",
        "missing": "32", "nofail": "0", "unknown": "1", "fake": "0", "faked": "",
        "namespace": "0", "outside": "", "inside": "n", "leave": "0",
        "setuid": "0", "owner": "yes", "umount3": "0", "user": "0", "owner2": "yes", "noexec": "yes", "umount4": "0",
        "capable": "0", "owner4": "yes", "umount7": "0",
        "plain": "0", "plain-noexec": "yes", "plain-rw": "0", "plain-is-rw": "yes", "umount5": "0",
        "plain-setuid": "0", "owner3": "yes", "umount6": "0",
    }  # fmt: skip
    assert said == expected, f"{ {k: v for k, v in said.items() if expected.get(k) != v} } {done.stderr}"
