"""The requests about files: each is its system call, nothing is left open, epoll refuses them."""

from __future__ import annotations

import errno
import os
import stat

import pytest
from uringloop.driver._engine import ffi, lib

from .engine_harness import LIMIT_S, Engine, address_of, open_descriptors

pytestmark = pytest.mark.engines("io_uring", "io_uring-plain", reason="epoll has none of them")

AT_FDCWD = -100
AT_REMOVEDIR = 0x200
OWN_POSITION = 2**64 - 1
WORKING_DIRECTORY = AT_FDCWD & 0xFFFFFFFF


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def ask(engine, opcode, fd=-1, memory=(), **fields):
    """The result of one request."""
    operation = engine.stage(opcode, fd, memory=memory, **fields)
    engine.finish(operation)
    return operation.result


def c_string(path):
    return ffi.new("char[]", os.fsencode(path))


def stage_open(engine, path, flags=os.O_RDONLY, how=0, info=None):
    name = c_string(path)
    return engine.stage(
        lib.UL_OP_OPEN,
        AT_FDCWD,
        memory=(name, info),
        address=address_of(name),
        length=flags << 32 | 0o640,
        argument=address_of(info) if info else 0,
        flags=how,
    )


def open_file(engine, path, flags=os.O_RDONLY, info=None):
    operation = stage_open(engine, path, flags, info=info)
    engine.finish(operation)
    return operation.result


def close_file(engine, fd):
    assert ask(engine, lib.UL_OP_CLOSE, fd) == 0


def ask_about(engine, opcode, path, other=None, **fields):
    names = [c_string(path), c_string(other or "")]
    if other is not None:
        fields["argument"] = address_of(names[1])
    return ask(engine, opcode, AT_FDCWD, names, address=address_of(names[0]), **fields)


def test_open_tells_what_it_opened(engine, path):
    info = ffi.new("struct ul_file_info *")
    fd = open_file(engine, path, os.O_RDWR | os.O_CLOEXEC, info)
    assert fd >= 0 and not os.get_inheritable(fd)
    status = os.fstat(fd)
    assert (info.size, info.mode, info.block_bytes) == (7, status.st_mode, status.st_blksize)
    close_file(engine, fd)
    assert open_file(engine, path.parent / "missing") == -errno.ENOENT
    assert open_file(engine, path, os.O_CREAT | os.O_EXCL | os.O_WRONLY) == -errno.EEXIST


def test_open_creates_with_the_mode_that_was_asked_for(engine, path):
    new = path.with_name("new")
    close_file(engine, open_file(engine, new, os.O_CREAT | os.O_WRONLY))
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(new.stat().st_mode) == 0o640 & ~mask


def test_read_and_write_at_an_offset_and_at_the_files_own_position(engine, path):
    fd = open_file(engine, path, os.O_RDWR)
    memory = ffi.new("char[10]")
    where = {"memory": memory, "address": address_of(memory)}
    assert ask(engine, lib.UL_OP_READ, fd, length=10, argument=2, **where) == 5
    assert bytes(ffi.buffer(memory))[:5] == b"ntent"
    assert os.lseek(fd, 0, os.SEEK_CUR) == 0
    assert ask(engine, lib.UL_OP_READ, fd, length=3, argument=OWN_POSITION, **where) == 3
    assert ask(engine, lib.UL_OP_READ, fd, length=3, argument=OWN_POSITION, **where) == 3
    assert bytes(ffi.buffer(memory))[:3] == b"ten"
    assert os.lseek(fd, 0, os.SEEK_CUR) == 6
    assert ask(engine, lib.UL_OP_READ, fd, length=3, argument=7, **where) == 0
    assert ask(engine, lib.UL_OP_WRITE, fd, length=2, argument=9, **where) == 2
    assert ask(engine, lib.UL_OP_WRITE, fd, length=1, argument=OWN_POSITION, **where) == 1
    close_file(engine, fd)
    assert path.read_bytes() == b"content\0\0te"


def test_a_wrong_descriptor_is_told(engine):
    for opcode in (lib.UL_OP_READ, lib.UL_OP_WRITE, lib.UL_OP_CLOSE, lib.UL_OP_FSYNC):
        assert ask(engine, opcode, 999_999) == -errno.EBADF


def test_fsync_and_fdatasync(engine, path):
    fd = open_file(engine, path, os.O_RDWR)
    assert ask(engine, lib.UL_OP_FSYNC, fd) == 0
    assert ask(engine, lib.UL_OP_FSYNC, fd, length=1 << 32) == 0
    close_file(engine, fd)


def test_truncate_where_the_kernel_has_it(engine, features, path):
    fd = open_file(engine, path, os.O_RDWR)
    has_it = features & lib.UL_FEATURE_FILE_TRUNCATE
    answer = ask(engine, lib.UL_OP_TRUNCATE, fd, argument=3)
    assert answer == (0 if has_it else -errno.EINVAL)
    assert path.read_bytes() == (b"con" if has_it else b"content")
    close_file(engine, fd)


def test_names_are_made_changed_and_removed(engine, path):
    folder = path.parent
    two = {"length": WORKING_DIRECTORY}
    assert ask_about(engine, lib.UL_OP_MKDIR, folder / "sub", length=0o700) == 0
    assert ask_about(engine, lib.UL_OP_RENAME, path, folder / "sub/moved", **two) == 0
    assert ask_about(engine, lib.UL_OP_LINK, folder / "sub/moved", path, **two) == 0
    assert path.stat().st_nlink == 2
    assert ask_about(engine, lib.UL_OP_SYMLINK, "anything", folder / "link") == 0
    assert os.readlink(folder / "link") == "anything"
    assert ask_about(engine, lib.UL_OP_UNLINK, folder / "sub", length=AT_REMOVEDIR << 32) == (
        -errno.ENOTEMPTY
    )
    for name in ("sub/moved", "link", "file"):
        assert ask_about(engine, lib.UL_OP_UNLINK, folder / name) == 0
    assert ask_about(engine, lib.UL_OP_UNLINK, folder / "sub", length=AT_REMOVEDIR << 32) == 0
    assert list(folder.iterdir()) == []
    assert ask_about(engine, lib.UL_OP_UNLINK, path) == -errno.ENOENT


def test_stat_fills_the_kernels_structure(engine, path):
    status = ffi.new("char[256]")
    answer = ask_about(engine, lib.UL_OP_STAT, path, length=0x7FF, argument=address_of(status))
    assert answer == 0
    size = int.from_bytes(ffi.buffer(status)[40:48], "little")
    assert size == 7


def test_a_read_that_waits_can_be_cancelled_and_takes_nothing(engine, resources):
    reader, writer = os.pipe()
    resources.callback(os.close, reader)
    resources.callback(os.close, writer)
    memory = ffi.new("char[10]")
    where = {"address": address_of(memory), "length": 10, "argument": OWN_POSITION}
    reading = engine.stage(lib.UL_OP_READ, reader, memory=(memory,), **where)
    engine.turn()
    engine.cancel(reading)
    engine.finish(reading)
    assert reading.result == -errno.ECANCELED
    os.write(writer, b"kept")
    assert os.read(reader, 10) == b"kept"


def test_an_open_that_waits_for_a_writer_can_be_cancelled(engine, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    opening = stage_open(engine, tmp_path / "fifo", os.O_RDONLY, lib.UL_WAITS)
    engine.turn()
    engine.turn(0.01)
    assert not opening.is_done
    engine.cancel(opening)
    engine.finish(opening)
    assert opening.result == -errno.ECANCELED


def test_an_open_that_may_wait_ends_when_the_other_end_comes(engine, tmp_path, in_thread):
    os.mkfifo(tmp_path / "fifo")
    opening = stage_open(engine, tmp_path / "fifo", os.O_RDONLY, lib.UL_WAITS)
    engine.turn()
    writing = in_thread((tmp_path / "fifo").write_bytes, b"x")
    engine.finish(opening)
    assert os.read(opening.result, 5) == b"x"
    assert writing.result(LIMIT_S) == 1
    close_file(engine, opening.result)


def test_no_cancel_reaches_a_close(engine, path):
    fd = os.open(path, os.O_RDONLY)
    closing = engine.stage(lib.UL_OP_CLOSE, fd)
    engine.cancel(closing)
    engine.finish(closing)
    assert closing.result == 0
    assert fd not in open_descriptors()


@pytest.mark.parametrize("turns", [0, 1])
def test_an_engine_that_is_closed_carries_out_each_close(features, path, turns, descriptors):
    """Also those that no turn has taken, and more than the submission queue has room for."""
    engine = Engine(features=features, sq_entries=4, cq_entries=8, event_capacity=2)
    for _ in range(30):
        engine.stage(lib.UL_OP_CLOSE, os.open(path, os.O_RDONLY))
    for _ in range(turns):
        engine.turn()
    engine.close()


def test_an_engine_that_is_closed_keeps_no_file_that_it_opens(features, path, descriptors):
    engine = Engine(features=features, event_capacity=2)
    opened = [stage_open(engine, path) for _ in range(10)]
    opened += [stage_open(engine, path, os.O_RDONLY | os.O_CREAT) for _ in range(10)]
    engine.turn()
    taken = [each.result for each in opened if each.is_done]
    engine.close()
    for fd in taken:
        os.close(fd)


def test_more_requests_than_the_queues_have_room_for_are_all_answered(sized_engine, path):
    opened = [stage_open(sized_engine, path) for _ in range(50)]
    sized_engine.finish(*opened)
    closing = [sized_engine.stage(lib.UL_OP_CLOSE, each.result) for each in opened]
    sized_engine.finish(*closing)
    assert [each.result for each in closing] == [0] * 50


@pytest.mark.engines("epoll", reason="io_uring has them")
def test_epoll_refuses_requests_about_files_and_leaves_the_descriptor_alone(engine, path):
    fd = os.open(path, os.O_RDONLY)
    for opcode in range(lib.UL_OP_OPEN, lib.UL_OP_SYMLINK + 1):
        assert ask(engine, opcode, fd) == -errno.EOPNOTSUPP
    os.close(fd)


def test_an_opcode_that_is_none_is_refused(engine):
    assert ask(engine, lib.UL_OP_SYMLINK + 1, 0) == -errno.EINVAL
