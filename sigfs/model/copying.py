"""Directory trees copied to another file system.

Owned here: that a copy says what the original says, down to holes, links and rights. There are two open descriptors a
level of directories.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import Final

from sigfs.errors import JobChanged
from sigfs.model import files, trees
from sigfs.model.trees import Listing

_FICLONE: Final = 0x40049409
_KEPT_ATTRIBUTES: Final = ("user.", "system.posix_acl_")
"""Extended attributes that a copy must have; the others (labels of security modules and the like) if it may."""
_NO_ATTRIBUTES: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM})
# What copy_file_range(2) says where it cannot: between most file systems, on some of them, in some sandboxes.
_NO_COPYING: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY})


def copy(source_fd: int, target_fd: int, last: str = "", ignored: str = "") -> Listing:
    """Make the tree *target_fd* a copy of the tree *source_fd*: an earlier, unfinished copy is completed.

    Kept are content (read again from the disk and compared), holes, symbolic links, fifos, sockets and devices, hard
    links within the tree, times, permissions, ACLs and extended attributes, and owners as far as that is allowed. On
    return all is on the disk.

    Args:
        last: name at the top of the tree that is to come after everything else.
        ignored: name at the top of either tree that is left alone.
    Returns:
        What the source was like.
    Raises:
        OSError: as mkdir(2), open(2), read(2), write(2) and so on; EIO where the copy is not what was read.
        JobChanged: something vanished while it was read.
    """
    copying = _Copy(target_fd, os.fstat(source_fd).st_dev)
    try:
        copying.directory(source_fd, target_fd, "", last, ignored)
    except FileNotFoundError as error:
        raise JobChanged(f"{os.fsdecode(error.filename or '')} has just gone") from error
    for path, first in copying.linked.items():
        copying.seen[path] = copying.seen[path]._replace(content=copying.seen[first].content)
    return copying.seen


def link(source_fd: int, target_fd: int, ignored: str = "") -> Listing:
    """Make the tree *target_fd* one of directories of its own with the very files of the tree *source_fd*.

    An earlier, unfinished one is completed. Directories get times, permissions and attributes of the originals.

    Args:
        ignored: name at the top of the source that is left out.
    Returns:
        What the source was like.
    Raises:
        OSError: EXDEV between file systems, EPERM where there are no hard links or not of this file.
        JobChanged: something vanished while it was read.
    """
    seen: Listing = {}
    try:
        _link_directory(source_fd, target_fd, "", os.fstat(source_fd).st_dev, ignored, seen)
    except FileNotFoundError as error:
        raise JobChanged(f"{os.fsdecode(error.filename or '')} has just gone") from error
    return seen


def _link_directory(source_fd: int, target_fd: int, path: str, device: int, ignored: str, seen: Listing) -> None:
    status = os.fstat(source_fd)
    seen[path] = trees.seen(status, top=not path)
    os.fchmod(target_fd, 0o700)
    entries = [entry for entry in trees.entries(source_fd, path, device) if path or entry[0] != ignored]
    for name in set(os.listdir(target_fd)) - {name for name, _ in entries}:
        trees.remove_at(target_fd, name)
    for name, below in entries:
        place = os.path.join(path, name)
        if stat.S_ISDIR(below.st_mode):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=target_fd)
            below_fd = os.open(name, trees.LIST_FLAGS, dir_fd=source_fd)
            try:
                copy_fd = trees.open_own(target_fd, name)
                try:
                    _link_directory(below_fd, copy_fd, place, device, "", seen)
                finally:
                    os.close(copy_fd)
            finally:
                os.close(below_fd)
            continue
        seen[place] = trees.seen(below)
        try:
            os.link(name, name, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)
        except FileExistsError:
            if not os.path.samestat(below, os.lstat(name, dir_fd=target_fd)):
                trees.remove_at(target_fd, name)
                os.link(name, name, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)
    _keep(source_fd, target_fd, status)


def clone(source_fd: int, target_fd: int) -> None:
    """Have the file *target_fd* share the blocks of the file *source_fd*.

    Raises:
        OSError: EOPNOTSUPP, EXDEV and the like where the file system has no such thing.
    """
    fcntl.ioctl(target_fd, _FICLONE, source_fd)


class _Copy:
    """One copying: what has been seen, by which path each file with several names is known, and its other names."""

    def __init__(self, target_fd: int, device: int) -> None:
        self.target_fd = target_fd
        self.device = device
        self.seen: Listing = {}
        self.links: dict[tuple[int, int], str] = {}
        self.linked: dict[str, str] = {}

    def directory(self, source_fd: int, target_fd: int, path: str, last: str = "", ignored: str = "") -> None:
        status = os.fstat(source_fd)
        self.seen[path] = trees.seen(status, top=not path)
        os.fchmod(target_fd, 0o700)  # nobody else's before it is complete; and to be written by who completes it
        entries = [entry for entry in trees.entries(source_fd, path, self.device) if path or entry[0] != ignored]
        for name in set(os.listdir(target_fd)) - {name for name, _ in entries}:
            if path or name != ignored:
                trees.remove_at(target_fd, name)
        for name, below in entries:
            if stat.S_ISDIR(below.st_mode):
                self.subdirectory(source_fd, target_fd, name, os.path.join(path, name))
        files_in_it = [entry for entry in entries if not stat.S_ISDIR(entry[1].st_mode)]
        for late in (False, True):
            part = [entry for entry in files_in_it if (not path and entry[0] == last) is late]
            data = [entry for entry in part if self.other(source_fd, target_fd, *entry, path)]
            for name, below in data:
                self.verify(source_fd, target_fd, name, below.st_size, os.path.join(path, name))
        _keep(source_fd, target_fd, status)
        os.fsync(target_fd)

    def subdirectory(self, source_fd: int, target_fd: int, name: str, path: str) -> None:
        below_fd = os.open(name, trees.LIST_FLAGS, dir_fd=source_fd)
        try:
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISDIR(os.lstat(name, dir_fd=target_fd).st_mode):
                    trees.remove_at(target_fd, name)
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=target_fd)
            copy_fd = trees.open_own(target_fd, name)
            try:
                self.directory(below_fd, copy_fd, path)
            finally:
                os.close(copy_fd)
        finally:
            os.close(below_fd)

    def other(self, source_fd: int, target_fd: int, name: str, status: os.stat_result, directory: str) -> bool:
        """Copy what is no directory; whether it is a file that is to be verified."""
        path = os.path.join(directory, name)
        self.seen[path] = trees.seen(status)
        key = (status.st_dev, status.st_ino)
        first = self.links.setdefault(key, path) if status.st_nlink > 1 else path
        if first != path and _link(self.target_fd, first, target_fd, name):
            self.linked[path] = first
            return False
        if stat.S_ISREG(status.st_mode):
            _copy_file(source_fd, target_fd, name, _is_complete(target_fd, name, status))
            return True
        trees.remove_at(target_fd, name)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source_fd), name, dir_fd=target_fd)
            with contextlib.suppress(PermissionError):
                os.chown(name, status.st_uid, status.st_gid, dir_fd=target_fd, follow_symlinks=False)
            os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target_fd, follow_symlinks=False)
        else:
            os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=target_fd)
            with trees.magic_path(source_fd, name) as source, trees.magic_path(target_fd, name) as target:
                _keep(source, target, status)
        return False

    def verify(self, source_fd: int, target_fd: int, name: str, size: int, path: str) -> None:
        """Bring the copy to the disk and compare; what an earlier copying has left is written anew if it differs."""
        for again in (False, True):
            with trees.opened(name, source_fd) as fd, trees.opened(name, target_fd) as copy_fd:
                if trees.seen(os.fstat(fd))[:2] != self.seen[path][:2]:
                    raise JobChanged(f"{path} has just been changed")
                os.fsync(copy_fd)
                with contextlib.suppress(OSError):  # so that what is compared comes from the disk, where it can
                    os.posix_fadvise(copy_fd, 0, 0, os.POSIX_FADV_DONTNEED)
                content = trees.content(fd, size)
                if content == trees.content(copy_fd, size):
                    self.seen[path] = self.seen[path]._replace(content=content)
                    return
            if not again:
                _copy_file(source_fd, target_fd, name, is_complete=False)
        raise OSError(errno.EIO, "what was copied is not what can be read again", path)


def _is_complete(directory_fd: int, name: str, wanted: os.stat_result) -> bool:
    """Whether a file has been copied before: its time is set last."""
    try:
        found = os.lstat(name, dir_fd=directory_fd)
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        trees.remove_at(directory_fd, name)
        return False
    return (found.st_size, found.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns)


def _copy_file(source_fd: int, target_fd: int, name: str, is_complete: bool) -> None:
    with trees.opened(name, source_fd) as fd:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise JobChanged(f"{name} has just been replaced")
        # In place if it is there: it may have other names already.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (0 if is_complete else os.O_TRUNC)
        with contextlib.suppress(FileNotFoundError), trees.magic_path(target_fd, name) as path:
            os.chmod(path, 0o600)
        copy_fd = os.open(name, flags, 0o600, dir_fd=target_fd)
        try:
            if not is_complete:
                _copy_data(fd, copy_fd, status.st_size)
            _keep(fd, copy_fd, status)
        finally:
            os.close(copy_fd)


def _copy_data(fd: int, copy_fd: int, size: int) -> None:
    with contextlib.suppress(OSError):
        clone(fd, copy_fd)  # the same blocks for both: between parts of one file system
        return
    os.ftruncate(copy_fd, size)
    by_kernel = True
    for start, end in trees.extents(fd, size):
        while start < end:
            done = 0
            if by_kernel:
                try:
                    done = os.copy_file_range(fd, copy_fd, end - start, start, start)
                except OSError as error:
                    if error.errno not in _NO_COPYING:
                        raise
                    by_kernel = False
            if not by_kernel:
                done = os.pwrite(copy_fd, os.pread(fd, min(trees.CHUNK_BYTES, end - start), start), start)
            if not done:
                return  # it has just become shorter, and will be found to be changed
            start += done


def _link(tree_fd: int, first: str, directory_fd: int, name: str) -> bool:
    """Give the file *first* of the tree another name; False if the file system has no such thing."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.lstat(first, dir_fd=tree_fd), os.lstat(name, dir_fd=directory_fd)):
            return True
        trees.remove_at(directory_fd, name)
    try:
        os.link(first, name, src_dir_fd=tree_fd, dst_dir_fd=directory_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in files.NO_LINKS:
            raise
        return False
    return True


def _keep(source: int | str, target: int | str, status: os.stat_result) -> None:
    """Give *target* the owner, attributes, permissions and times of *source*. The owner as far as that is allowed, and
    then without the right to act as that; permissions where the file system has them."""
    mode = stat.S_IMODE(status.st_mode)
    try:
        os.chown(target, status.st_uid, status.st_gid)
    except PermissionError:
        with contextlib.suppress(PermissionError):
            os.chown(target, -1, status.st_gid)
        mode &= ~(stat.S_ISUID | stat.S_ISGID)
    names = _attributes(source)
    for name in _attributes(target) - names:
        with contextlib.suppress(OSError):
            os.removexattr(target, name)
    for name in names:
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            if name.startswith(_KEPT_ATTRIBUTES):
                message = f"the destination cannot keep the extended attribute {name} ({error.strerror}) of a file"
                raise OSError(error.errno, message) from error
    with contextlib.suppress(PermissionError):
        os.chmod(target, mode)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _attributes(path: int | str) -> set[str]:
    try:
        return set(os.listxattr(path))
    except OSError as error:
        if error.errno not in _NO_ATTRIBUTES:
            raise
        return set()
