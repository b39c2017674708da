"""Arrays and other data of a job in an HDF5 file, as a mapping.

Owned here: how Python values are kept in such a file, which is as signac keeps them, and which file is open. A file
that is opened by a block is shared by all who use it in this process until the outermost block ends; who uses it
without one opens and closes it each time. HDF5 itself keeps processes from writing one file at once; a process that is
killed while it writes can leave the file broken.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, MutableMapping
from types import ModuleType
from typing import Any, Final, Self

from sigfs.api.locating import no_such_job
from sigfs.errors import NoSuchJob


class _File:
    """An open file: the h5py object, and how many blocks want it."""

    __slots__ = ("count", "h5")

    def __init__(self, h5: Any) -> None:
        self.h5 = h5
        self.count = 1


_lock: Final = threading.RLock()
"""Held for each use of a file; guards ``_open``."""

_open: Final[dict[str, _File]] = {}
"""Absolute path -> the file, as long as a block wants it open."""


class Data(MutableMapping[str, Any]):
    """What an HDF5 file, or a group in it, holds: keys are items and attributes, ``data.a.b`` is ``data["a"]["b"]``.

    Mappings become groups, None an empty dataset; numbers, strings, bytes and arrays datasets. An array that is read
    comes as a numpy array; within a block, ``with job.data as data:``, it comes as h5py's dataset, of which a part can
    be read or written. The file is made when something is put in.

    Raises:
        ImportError: h5py is not installed.
        KeyError: no such key (AttributeError for attributes).
        NoSuchJob: there is no job (any more).
        OSError: the file cannot be opened; also if another process has it open for writing.
        TypeError: a value that HDF5 has no form for.
    """

    __slots__ = ("_filename", "_group")

    _filename: str
    _group: str

    def __init__(self, filename: str, group: str = "/") -> None:
        """Name a file, and a group in it; nothing is touched.

        Raises:
            ImportError: h5py is not installed.
        """
        _h5py()
        object.__setattr__(self, "_filename", os.path.abspath(filename))
        object.__setattr__(self, "_group", group)

    @property
    def filename(self) -> str:
        """Absolute path of the file."""
        return self._filename

    @property
    def file(self) -> Any:
        """The ``h5py.File``, within a block.

        Raises:
            RuntimeError: it is not open.
        """
        with _lock:
            if self._filename not in _open:
                raise RuntimeError(f"{self._filename} is not open: use it within a block, `with job.data as data:`")
            return _open[self._filename].h5

    def open(self, mode: str = "a") -> Self:
        """Keep the file open until `close`; "r" for reading only. An open file stays as it was opened first."""
        with _lock:
            if self._filename in _open:
                _open[self._filename].count += 1
            else:
                if not os.path.isdir(os.path.dirname(self._filename)):
                    raise no_such_job(os.path.dirname(self._filename))
                _open[self._filename] = _File(_h5py().File(self._filename, mode))
        return self

    def close(self) -> None:
        """Undo one `open`; the last one closes the file."""
        with _lock:
            found = _open.get(self._filename)
            if found is not None:
                found.count -= 1
                if not found.count:
                    del _open[self._filename]
                    found.h5.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def flush(self) -> None:
        """Bring what has been put in to the file, if it is open."""
        with _lock:
            if self._filename in _open:
                _open[self._filename].h5.flush()

    def __getitem__(self, key: str) -> Any:
        with self._used() as group:
            if group is None or _valid(key) not in group:
                raise KeyError(key)
            return self._value(group[key], key)

    def __setitem__(self, key: str, value: object) -> None:
        _valid(key)
        if isinstance(value, Data):
            value = value()
        with self._used(write=True) as group:
            _put(group, key, value)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        with self._used(write=True) as group:
            del group[key]

    def __contains__(self, key: object) -> bool:
        with self._used() as group:
            return isinstance(key, str) and group is not None and key in group

    def __iter__(self) -> Iterator[str]:
        with self._used() as group:
            return iter([] if group is None else list(group))

    def __len__(self) -> int:
        with self._used() as group:
            return 0 if group is None else len(group)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        try:
            return self[name]
        except NoSuchJob:
            raise
        except KeyError:
            raise AttributeError(f"no key {name!r} in {self!r}") from None

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(type(self), name):
            raise AttributeError(f"{name} is a method: use data[{name!r}] for the key")
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except NoSuchJob:
            raise
        except KeyError:
            raise AttributeError(f"no key {name!r} in {self!r}") from None

    def __call__(self) -> dict[str, Any]:
        """All of it in memory: a dict of dicts, arrays and values."""
        with self._used() as group:
            return {} if group is None else {key: _in_memory(group[key]) for key in group}

    def reset(self, data: Mapping[str, object]) -> None:
        """Have just what *data* has."""
        new = {_valid(key): value() if isinstance(value, Data) else value for key, value in data.items()}
        with self._used(write=True) as group:
            for key in list(group):
                del group[key]
            for key, value in new.items():
                _put(group, key, value)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Data) and (self._filename, self._group) == (other._filename, other._group):
            return True
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]  # as that of a dict

    def __repr__(self) -> str:
        return f"Data({self._filename!r})" if self._group == "/" else f"Data({self._filename!r}, {self._group!r})"

    @contextlib.contextmanager
    def _used(self, *, write: bool = False) -> Iterator[Any]:
        """Give the group; None, where it is only read, if it is not there."""
        with _lock:
            if self._filename not in _open and not write and not os.path.exists(self._filename):
                if not os.path.isdir(os.path.dirname(self._filename)):
                    raise no_such_job(os.path.dirname(self._filename))
                yield None
                return
            self.open("a" if write else "r")
            try:
                h5 = _open[self._filename].h5
                yield h5.require_group(self._group) if write else h5.get(self._group)
            finally:
                self.close()

    def _value(self, found: Any, key: str) -> Any:
        if isinstance(found, _h5py().Group):
            return Data(self._filename, f"{self._group.rstrip('/')}/{key}")
        is_kept_open = _open[self._filename].count > 1  # one is that of `_used`
        return found if is_kept_open and found.shape else _in_memory(found)


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise ImportError("job.data needs h5py: pip install 'sigfs[h5]'") from error
    return h5py  # type: ignore[no-any-return]


def _valid(key: object) -> str:
    if not isinstance(key, str) or not key or "." in key:
        raise KeyError(f'{key!r} is no key: it is to be a string, not empty and without "."')
    return key


def _put(group: Any, key: str, value: object) -> None:
    import numpy as np

    if key in group:
        if group[key] == value if isinstance(value, _h5py().Dataset) else False:
            return  # ``data.x += 1`` puts the dataset back that it has changed
        del group[key]
    if isinstance(value, Mapping):
        below = group.create_group(key)
        for name, item in value.items():
            _put(below, _valid(name), item)
    elif value is None:
        group.create_dataset(key, data=_h5py().Empty("f"))
    else:
        group[key] = np.bytes_(value) if isinstance(value, bytes) else value


def _in_memory(found: Any) -> Any:
    h5py = _h5py()
    if isinstance(found, h5py.Group):
        return {key: _in_memory(found[key]) for key in found}
    if found.shape is None:
        return None
    if (
        not found.shape
        and h5py.check_string_dtype(found.dtype) is not None
        and h5py.check_dtype(vlen=found.dtype) is str
    ):
        return found.asstr()[()]
    return found[()]
