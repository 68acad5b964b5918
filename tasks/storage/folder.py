"""A folder as a storage root. Writes go to a hidden file beside the target, then take its name.

A key is never a way out of the folder: one that could be (``..``, an absolute path, NUL) is a
`Problem`, and so is a link among listed objects that leads out of it, for what it leads to may be
anything, and what is listed is copied. Nothing is written through a link. What is no file (a pipe,
a folder, a link that leads nowhere or in a circle) is no object, and never waited for; `entries`
names it.
"""

import bisect
import contextlib
import errno
import filecmp
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from tasks.problem import Problem
from tasks.processes import is_alive
from tasks.storage import StoredObject, overtaken
from tasks.storage.address import BulkSource, Credentials
from tasks.storage.listed import Unreadable

_CHUNK_BYTES = 1 << 20
_FOLDER = "a folder"


class Folder:
    """Objects are the files below `path`; see `tasks.storage.Root` for the verbs."""

    keeps_checksums = False
    lists_at_once = 1  # there is nothing to wait for: threads would only be in each other's way

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser().absolute()
        self.url = str(self.path)
        self._names: dict[Path, tuple[int, list[str]]] = {}

    def address_of(self, key: str) -> str:
        return f"{self.url.rstrip('/')}/{key}"

    def check_readable(self) -> None:
        if not self.path.exists():
            raise Problem(f"The folder {self.url} does not exist: create it, or correct the path.")
        if not self.path.is_dir():
            raise Problem(f"{self.url} is a file; give the folder that holds the snapshots.")
        if not os.access(self.path, os.R_OK | os.X_OK):
            raise Problem(f"The folder {self.url} cannot be read: ask its owner for access.")

    def check_writable(self) -> None:
        with _explained(self.path, "written"):
            self.path.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(self.path, "probe")
            probe = self.path / f".probe.tmp-{os.getpid()}"
            probe.touch()
            probe.unlink()

    def remove_leftovers(self, prefix: str) -> None:
        folder, slash, start = prefix.rpartition("/")
        place = self.path / folder if slash else self.path
        if place.is_dir():
            with _explained(place, "written"):
                _remove_leftovers(place, re.escape(start) + ".*")

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        return (one for one in self.entries(prefix) if not one.no_file)

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        _, names = self._sorted_names(prefix)
        folder, slash, start = prefix.rpartition("/")
        for name in names[bisect.bisect_left(names, start) :]:
            if not name.startswith(start):
                return
            found = self._entry(f"{folder}{slash}{name}", must_stay_inside=True)
            if found is not None:
                yield found

    def survey(self, skip: Callable[[str], str]) -> Iterator[StoredObject]:
        yield from self._surveyed("", skip, {_number_of(self.path)})

    def _surveyed(
        self, prefix: str, skip: Callable[[str], str], seen: set[tuple[int, int]]
    ) -> Iterator[StoredObject]:
        try:
            names = self._sorted_names(prefix)[1]
        except Problem:
            return  # somebody else's folder, such as lost+found: `objects` says so where it counts
        at = 0
        while at < len(names):
            key = prefix + names[at]
            if reached := skip(key):
                behind = bisect.bisect_right(names, reached, key=lambda name: prefix + name)
                at = max(at + 1, behind)
                continue
            at += 1
            entry = self._entry(key)
            if entry is None:
                continue
            yield entry
            path = self.path / key
            is_below = entry.no_file == _FOLDER and (key == "raw" or not path.is_symlink())
            if is_below and not skip(f"{key}/") and (number := _number_of(path)) not in seen:
                seen.add(number)
                yield from self._surveyed(f"{key}/", skip, seen)

    def is_same(self, key: str, other: str) -> bool:
        try:
            return os.path.samefile(self.path / key, self.path / other)
        except OSError:  # gone meanwhile
            return False

    def top_objects(self) -> Iterator[StoredObject]:
        found = map(self._stored, self._sorted_names("")[1])
        yield from (one for one in found if one is not None)

    def first_key(self, prefix: str, after: str) -> str | None:
        folder, names = self._sorted_names(prefix)
        start, behind = prefix.rpartition("/")[2], after.rpartition("/")[2]
        at = max(bisect.bisect_left(names, start), bisect.bisect_right(names, behind))
        for name in names[at:]:
            if not name.startswith(start):
                break
            if (folder / name).is_file():
                return (folder / name).relative_to(self.path).as_posix()
        return None

    def find(self, key: str) -> StoredObject | None:
        self._path_of(key)
        return self._stored(key)

    def stored_sha256(self, _key: str) -> str | None:
        return None  # a folder keeps no checksums: whoever wants one reads the file

    def read(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        path = self._path_of(key)
        with _explained(path, "read"), open_file(path) as file:
            file.seek(offset)
            return file.read() if size is None else file.read(size)

    def stream(self, key: str) -> Iterator[bytes]:
        path = self._path_of(key)
        with _explained(path, "read"), open_file(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk

    def bulk_source(self) -> BulkSource:
        return BulkSource(self.url, folder=self.path)

    def credentials(self, _expired: Credentials | None = None, /) -> Credentials | None:
        return None

    def write(self, key: str, data: bytes, expected_etag: str | None = None) -> None:
        with self._whole_or_not(key, expected_etag) as hidden:
            hidden.write_bytes(data)

    def write_file(self, key: str, path: Path, expected_etag: str | None = None) -> None:
        with self._whole_or_not(key, expected_etag) as hidden:
            try:
                os.link(path, hidden)  # no byte is copied where both are on one disk
            except OSError:
                shutil.copyfile(path, hidden)
            if hidden.stat().st_size != path.stat().st_size:
                raise Problem(f"{self.path / key}: not all bytes arrived. Run it again.")

    @contextlib.contextmanager
    def _whole_or_not(self, key: str, expected_etag: str | None) -> Iterator[Path]:
        target = self._path_of(key)
        self._must_not_be_below_a_link(target)
        with _explained(target, "written"):
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(target.parent, re.escape(target.name))
            hidden = target.with_name(f".{target.name}.tmp-{os.getpid()}")
            hidden.unlink(missing_ok=True)  # it may be a link, and would be written through
            try:
                yield hidden
                sync_to_disk(hidden)
                if expected_etag is None or self._is_as_expected(key, expected_etag):
                    hidden.replace(target)
                    sync_to_disk(target.parent)
                elif not target.is_file() or not filecmp.cmp(hidden, target, shallow=False):
                    raise overtaken(str(target))
            finally:
                hidden.unlink(missing_ok=True)

    def _is_as_expected(self, key: str, etag: str) -> bool:
        """What other machines do in this very moment a folder cannot tell."""
        stored = self._entry(key)
        if stored is not None and stored.no_file:
            raise Problem(
                f"{self.path / key} is {stored.no_file}, and in the way of a file: remove it, or "
                "choose another folder."
            )
        return (stored.etag if stored else "") == etag

    def _path_of(self, key: str) -> Path:
        if "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
            raise Problem(f"{key!a} is no name of anything below {self.url}.")
        return self.path / key

    def _must_not_be_below_a_link(self, target: Path) -> None:
        """What a link leads to may be anything; the folder itself may be one, it was named."""
        for folder in target.parents:
            if folder == self.path:
                return
            if folder.is_symlink():
                raise Problem(
                    f"{folder} is a link, and nothing is written through one: put a folder in its "
                    "place, or choose another one."
                )

    def _must_not_lead_out(self, link: str) -> None:
        if not Path(link).resolve().is_relative_to(self.path.resolve()):
            raise Problem(
                f"{link} is a link that leads out of {self.url}: put what it leads to in its "
                "place, or remove it."
            )

    def _sorted_names(self, prefix: str) -> tuple[Path, list[str]]:
        """The folder that a prefix points into, and the names in it (kept until it changes)."""
        folder = self.path / prefix.rpartition("/")[0]
        try:
            changed = folder.stat().st_mtime_ns
            kept = self._names.get(folder)
            if kept is None or kept[0] != changed:
                kept = changed, sorted(os.listdir(folder))
                self._names[folder] = kept
            return folder, kept[1]
        except (FileNotFoundError, NotADirectoryError):
            return folder, []
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link that leads in a circle: `survey` names it
                return folder, []
            raise _problem(folder, "read", error) from None

    def _stored(self, key: str) -> StoredObject | None:
        found = self._entry(key)
        return None if found is None or found.no_file else found

    def _entry(self, key: str, must_stay_inside: bool = False) -> StoredObject | None:
        path = f"{self.url}/{key}"  # no Path: there are ten thousand a week
        is_link = False
        try:
            status = os.lstat(path)
            if is_link := stat.S_ISLNK(status.st_mode):
                status = os.stat(path)
                if must_stay_inside:
                    self._must_not_lead_out(path)
        except (FileNotFoundError, NotADirectoryError):
            return StoredObject(key, 0, "", 0.0, "a link that leads nowhere") if is_link else None
        except OSError as error:
            if is_link and error.errno == errno.ELOOP:
                return StoredObject(key, 0, "", 0.0, "a link that leads in a circle")
            raise _problem(Path(path), "read", error) from None
        no_file = "" if stat.S_ISREG(status.st_mode) else _kind_of(status.st_mode)
        written, tag = status.st_mtime, str(status.st_mtime_ns)
        return StoredObject(key, status.st_size, tag, written, no_file)


def _number_of(folder: Path) -> tuple[int, int]:
    """What tells a folder from all others, by whatever name it is reached."""
    try:
        status = folder.stat()
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino


def _kind_of(mode: int) -> str:
    kinds = {stat.S_IFDIR: _FOLDER, stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def open_file(path: Path) -> BinaryIO:
    """Open a file to read it; what has become a pipe since is not waited for.

    Raises `OSError`, also for what is no file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "there is no file of that name", str(path))
    return os.fdopen(descriptor, "rb")


def sync_to_disk(path: Path) -> None:
    """Have the operating system write a file, or a folder's names, to the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(folder: Path, names: str) -> None:
    """Remove what processes that are no more left of files of such names when they were killed."""
    leftover = re.compile(rf"\.{names}\.tmp-([1-9]\d{{0,8}})", re.ASCII)
    for name in os.listdir(folder):
        match = leftover.fullmatch(name)
        if match and not is_alive(int(match[1])):
            (folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def _explained(path: Path, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _problem(path, done, error) from None


def _problem(path: Path, done: str, error: OSError) -> Problem:
    missing = "it is gone, or was never there; run it again to list afresh"
    remedies = {
        errno.ENOENT: missing if done == "read" else "no folder can be made there; choose another",
        errno.EACCES: "access is denied; ask its owner, or choose another folder",
        errno.EPERM: "access is denied; ask its owner, or choose another folder",
        errno.EROFS: "the file system is read-only; choose another folder",
        errno.ENOSPC: "the disk is full; free some space and run it again",
        errno.EDQUOT: "your quota on this disk is used up; free some space and run it again",
        errno.ENOTDIR: "a part of the path is a file; choose another folder",
        errno.EEXIST: "a file of that name is in the way; choose another folder",
    }
    why = remedies.get(error.errno or 0, f"{error.strerror}; mend that and run it again")
    kind = Unreadable if done == "read" else Problem
    return kind(f"{path} cannot be {done}: {why}.")
