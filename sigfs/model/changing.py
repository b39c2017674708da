"""What becomes of a job's directory: it gets another state point, or it goes.

Owned here: the order of the steps, which is such that a process may be killed between any two of them, and any number
of processes, on any hosts, signac's too, may be at work on the same jobs. What decides is always one rename.

All functions work below the workspace's descriptor and follow no symbolic link.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from typing import Final

from sigfs.errors import DestinationExists, JobNotEmpty, NoSuchJob, PendingJob
from sigfs.model import files
from sigfs.model.reading import DOCUMENT_FILE, STATEPOINT_FILE, parse_statepoint, read_job
from sigfs.model.statepoint import encode, load_json, statepoint_id, validate
from sigfs.model.types import JobId, StatePoint

log = logging.getLogger(__name__)

_METADATA: Final = frozenset({STATEPOINT_FILE, DOCUMENT_FILE, ".sigfs-own"})
_TAKEN: Final = frozenset({errno.EEXIST, errno.ENOTEMPTY})
_NO_FLAGS: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


def is_metadata(name: str) -> bool:
    """Whether a file of this name in a job directory says something about the job and is no data of it."""
    return name in _METADATA or files.is_temporary(name)


def migrate(workspace_fd: int, old: JobId, new: JobId, data: bytes, function: str) -> None:
    """Make job *old* the job *new*, whose state point file says *data*.

    1. The new state point is written to a temporary file in the job's directory. 2. The directory is renamed, which
    claims the new id. 3. The temporary file replaces the state point file. After 2 anybody can do 3: see ``finish``.

    Raises:
        NoSuchJob: there is no job *old* (any more).
        PendingJob: its state point cannot be read, or is another one.
        DestinationExists: something has the name *new*.
        OSError: permissions, no space and the like; all is as before.
    """
    assert old != new
    fd = _open(workspace_fd, old)
    try:
        mode = _mode_of_own(workspace_fd, fd, old, function)
        temporary = files.temporary_name()
        try:
            try:
                files.write_new(fd, temporary, data, mode)
                with contextlib.suppress(PermissionError):
                    os.chmod(temporary, mode, dir_fd=fd)  # whatever the umask
                files.fsync_directory(fd)
                rename_new(workspace_fd, old, new)
            except FileNotFoundError:
                raise NoSuchJob(f"no job {old} any more: it has just been removed or migrated") from None
            try:
                _replace(workspace_fd, new, temporary)
            except FileNotFoundError:
                _see_why(workspace_fd, old, new, function)
            except BaseException:
                with contextlib.suppress(OSError):
                    rename_new(workspace_fd, new, old)
                raise
        finally:
            # Not there any more if all went well. The directory's descriptor leads to it wherever it is by now.
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=fd)
        files.fsync_directory(fd)
    finally:
        os.close(fd)
    files.fsync_directory(workspace_fd)


def restate(directory_fd: int, name: str, before: StatePoint | None, after: StatePoint) -> None:
    """Give the job in the directory *name*, which is not called by its state point, another one. It stays where it is.

    Raises:
        InvalidStatePoint: see `sigfs.model.statepoint.validate`.
        NoSuchJob: there is none with the state point *before* (any more).
        PendingJob: its state point cannot be read.
        DestinationExists: it has the state point *after*.
        OSError: permissions, no space and the like; all is as before.
    """
    data = encode(validate(after))
    fd = _open(directory_fd, name)
    try:
        found = parse_statepoint(JobId(name), read_job(directory_fd, JobId(name), documents=False).statepoint)
        if found is None or before is None or encode(found) != encode(before):
            raise NoSuchJob(f"{name} has another state point by now")
        if data == encode(found):
            raise DestinationExists(errno.EEXIST, "the job has this state point", name)
        mode = stat.S_IMODE(os.stat(STATEPOINT_FILE, dir_fd=fd, follow_symlinks=False).st_mode)
        temporary = files.temporary_name()
        files.write_new(fd, temporary, data, mode)
        try:
            with contextlib.suppress(PermissionError):
                os.chmod(temporary, mode, dir_fd=fd)  # whatever the umask
            os.rename(temporary, STATEPOINT_FILE, src_dir_fd=fd, dst_dir_fd=fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=fd)
            raise
        files.fsync_directory(fd)
    finally:
        os.close(fd)


def finish(workspace_fd: int, job_id: JobId, function: str) -> bool:
    """Complete the migration to *job_id* that another process has begun, and may have been killed at.

    To be recognised by a directory whose state point file is missing or another's, with a temporary file in it that
    says the right one. Whoever is at work on it all the same is not disturbed.

    Returns:
        Whether there was something to do.
    Raises:
        OSError: permissions and the like.
    """
    fd, names = _rest(workspace_fd, job_id, function)
    try:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                _replace(workspace_fd, job_id, name)
                files.fsync_directory(fd)
                return True
    finally:
        if fd >= 0:
            os.close(fd)
    return False


def is_half_done(workspace_fd: int, job_id: JobId, function: str) -> bool:
    """Whether there is something to do for ``finish``."""
    fd, names = _rest(workspace_fd, job_id, function)
    if fd >= 0:
        os.close(fd)
    return bool(names)


def _rest(workspace_fd: int, job_id: JobId, function: str) -> tuple[int, list[str]]:
    """What a migration has left: a descriptor of the directory, or -1, and the temporary files that complete it."""
    try:
        if id_of(workspace_fd, job_id, function) == job_id:
            return -1, []
        fd = _open(workspace_fd, job_id)
    except (NoSuchJob, PendingJob):
        return -1, []  # a state point file that cannot be read is for people to look at
    temporary = (name for name in names_in(fd) if name.startswith(files.TEMPORARY_PREFIX))
    return fd, [name for name in temporary if _says(fd, name, job_id, function)]


def remove(workspace_fd: int, job_id: str) -> None:
    """Remove the job if its directory holds nothing but metadata.

    It vanishes at once: the directory gets a temporary name, then its files are taken out, then it is deleted. Should
    there be more in it by then, it comes back as it was.

    Raises:
        NoSuchJob: there is no such directory (any more).
        JobNotEmpty: there is something else in it.
        OSError: permissions and the like; the job is as before, or gone.
    """
    fd = _open(workspace_fd, job_id)
    try:
        _require_metadata(fd, job_id)
        hidden, grave = files.temporary_name(), files.temporary_name()
        os.mkdir(grave, 0o700, dir_fd=workspace_fd)
        try:
            try:
                os.rename(job_id, hidden, src_dir_fd=workspace_fd, dst_dir_fd=workspace_fd)
            except FileNotFoundError:
                raise NoSuchJob(f"no job {job_id} any more: it has just been removed or migrated") from None
            try:
                if not os.path.samestat(os.fstat(fd), os.stat(hidden, dir_fd=workspace_fd, follow_symlinks=False)):
                    raise JobNotEmpty(errno.ENOTEMPTY, f"the directory {job_id} has just been replaced")
                _require_metadata(fd, job_id)
                _bury(workspace_fd, hidden, grave)
            except BaseException:
                _put_back(workspace_fd, hidden, job_id)
                raise
        finally:
            _delete(workspace_fd, grave)
    finally:
        os.close(fd)
    files.fsync_directory(workspace_fd)


def publish(
    directory_fd: int,
    directory: str,
    name: str,
    data: bytes,
    mode: int = 0o777,
    file_mode: int = 0o666,
    *,
    replace_empty: bool = True,
) -> bool:
    """Make a job's directory whole and rename it to *name*; False if a directory of that name is there.

    Args:
        directory: path of the directory *directory_fd*, for messages.
        data: content of the state point file.
        mode, file_mode: permissions of the directory and of the state point file, less the umask.
        replace_empty: an empty directory may be replaced.
    Raises:
        FileExistsError: something that is no directory has the name.
        OSError: permissions, no space and the like; nothing is left.
    """
    temporary = files.temporary_name()
    try:
        os.mkdir(temporary, mode | 0o300, dir_fd=directory_fd)
    except OSError as error:
        # Not the name that nobody has asked for.
        raise OSError(error.errno, f"{error.strerror}; no job can be made here", directory) from error
    renamed = False
    try:
        fd = os.open(temporary, files.DIRECTORY_FLAGS, dir_fd=directory_fd)
        try:
            files.write_new(fd, STATEPOINT_FILE, data, file_mode)
            files.fsync_directory(fd)
        finally:
            os.close(fd)
        if mode & 0o300 != 0o300:
            os.chmod(temporary, mode, dir_fd=directory_fd)
        if replace_empty:
            # At most an empty directory, which can only be that of another creator, who will find this one.
            os.rename(temporary, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
        else:
            rename_new(directory_fd, temporary, name)
        renamed = True
    except NotADirectoryError as error:
        message = "something that is no directory has the name of this job; move it away"
        raise FileExistsError(errno.EEXIST, message, os.path.join(directory, name)) from error
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
    finally:
        if not renamed:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(temporary, STATEPOINT_FILE), dir_fd=directory_fd)
            with contextlib.suppress(OSError):
                os.rmdir(temporary, dir_fd=directory_fd)
    if renamed:
        files.fsync_directory(directory_fd)
    return renamed


def rename_new(directory_fd: int, old: str, new: str, new_directory_fd: int | None = None) -> None:
    """Rename a directory to a name that must be free; at worst that of an empty directory.

    Args:
        new_directory_fd: where the new name is; default: where the old one is.
    Raises:
        DestinationExists: the name is taken.
        OSError: as rename(2).
    """
    to = directory_fd if new_directory_fd is None else new_directory_fd
    try:
        try:
            files.renameat2(directory_fd, old, to, new, files.RENAME_NOREPLACE)
        except OSError as error:
            if error.errno not in _NO_FLAGS:
                raise
            os.rename(old, new, src_dir_fd=directory_fd, dst_dir_fd=to)
    except NotADirectoryError:
        raise DestinationExists(errno.EEXIST, "something that is no directory has this name", new) from None
    except OSError as error:
        if error.errno in _TAKEN:
            raise DestinationExists(errno.EEXIST, "there is a job of this state point", new) from None
        raise


def _open(workspace_fd: int, job_id: str) -> int:
    try:
        return os.open(job_id, files.DIRECTORY_FLAGS, dir_fd=workspace_fd)
    except (FileNotFoundError, NotADirectoryError):
        raise NoSuchJob(f"no job {job_id}") from None


def id_of(workspace_fd: int, job_id: JobId, function: str) -> JobId | None:
    """The id that the state point file in the directory *job_id* gives; None if there is no such file.

    Raises:
        NoSuchJob: no directory.
        PendingJob: a file that cannot be read.
    Complexity: it is read a second time if it gives another one.
    """
    found = _read_id(workspace_fd, job_id, function)
    if found not in (job_id, None):  # perhaps it was migrated, and is not here any more, just when it was read
        found = _read_id(workspace_fd, job_id, function)
    return found


def _read_id(workspace_fd: int, job_id: JobId, function: str) -> JobId | None:
    try:
        content = read_job(workspace_fd, job_id, documents=False).statepoint
    except PendingJob:
        with contextlib.suppress(FileNotFoundError):
            os.stat(os.path.join(job_id, STATEPOINT_FILE), dir_fd=workspace_fd, follow_symlinks=False)
            raise
        return None
    return statepoint_id(parse_statepoint(job_id, content), function)


def _mode_of_own(workspace_fd: int, fd: int, job_id: JobId, function: str) -> int:
    """Permissions of the job's state point file, which must be there and be its own."""
    found = id_of(workspace_fd, job_id, function)
    if found not in (job_id, None) and finish(workspace_fd, job_id, function):
        found = job_id
    if found != job_id:
        other = "is missing" if found is None else f"is that of {found}"
        raise PendingJob(f"{job_id}: {STATEPOINT_FILE} in it {other}; it cannot be migrated")
    try:
        return stat.S_IMODE(os.stat(STATEPOINT_FILE, dir_fd=fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        raise NoSuchJob(f"no job {job_id} any more: it has just been removed or migrated") from None


def _replace(workspace_fd: int, job_id: JobId, temporary: str) -> None:
    # By way of the job's name, so that it only works where the directory still has that name.
    old, new = os.path.join(job_id, temporary), os.path.join(job_id, STATEPOINT_FILE)
    os.rename(old, new, src_dir_fd=workspace_fd, dst_dir_fd=workspace_fd)


def _see_why(workspace_fd: int, old: JobId, new: JobId, function: str) -> None:
    """Find out why the temporary file is not where it was: others have done it, or it is another directory.

    Raises:
        NoSuchJob: the directory renamed was one that had just taken the place of job *old*. It has its name back.
    """
    try:
        found = id_of(workspace_fd, new, function)
    except (NoSuchJob, PendingJob):
        return  # others have gone on from there
    if found == old:
        with contextlib.suppress(OSError):
            rename_new(workspace_fd, new, old)
        raise NoSuchJob(f"no job {old} any more: another has just come in its place")


def names_in(fd: int) -> list[str]:
    """The names in the directory of an O_PATH descriptor."""
    own = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    try:
        return os.listdir(own)
    finally:
        os.close(own)


def _says(fd: int, name: str, job_id: JobId, function: str) -> bool:
    try:
        statepoint = load_json(files.read_at(fd, name))
    except (OSError, ValueError):
        return False
    return (statepoint is None or isinstance(statepoint, dict)) and statepoint_id(statepoint, function) == job_id


def _require_metadata(fd: int, job_id: str) -> None:
    for name in names_in(fd):
        with contextlib.suppress(FileNotFoundError):
            if not is_metadata(name) or stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                raise JobNotEmpty(errno.ENOTEMPTY, f"there is more than the job's metadata in {job_id}", name)


def _bury(workspace_fd: int, hidden: str, grave: str) -> None:
    """Take the files out of the directory *hidden* and delete it; or put them back, if more has come into it."""
    fd = os.open(hidden, files.DIRECTORY_FLAGS, dir_fd=workspace_fd)
    try:
        grave_fd = os.open(grave, files.DIRECTORY_FLAGS, dir_fd=workspace_fd)
        try:
            try:
                for name in filter(is_metadata, names_in(fd)):
                    with contextlib.suppress(FileNotFoundError):
                        os.rename(name, name, src_dir_fd=fd, dst_dir_fd=grave_fd)
                os.rmdir(hidden, dir_fd=workspace_fd)
            except BaseException:
                for name in names_in(grave_fd):
                    os.rename(name, name, src_dir_fd=grave_fd, dst_dir_fd=fd)
                raise
        finally:
            os.close(grave_fd)
    except OSError as error:
        if error.errno in _TAKEN:
            raise JobNotEmpty(errno.ENOTEMPTY, "something has just been put into the job") from None
        raise
    finally:
        os.close(fd)


def _put_back(workspace_fd: int, hidden: str, job_id: str) -> None:
    try:
        rename_new(workspace_fd, hidden, job_id)
    except FileNotFoundError:
        pass
    except OSError as error:
        log.error("%s could not get its name back (%s); its files are in %s", job_id, error.strerror, hidden)


def _delete(workspace_fd: int, grave: str) -> None:
    """Delete the directory *grave* and the files in it; what cannot be is left over."""
    with contextlib.suppress(OSError):
        fd = os.open(grave, files.DIRECTORY_FLAGS, dir_fd=workspace_fd)
        try:
            for name in names_in(fd):
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=fd)
        finally:
            os.close(fd)
        os.rmdir(grave, dir_fd=workspace_fd)
