"""What a verifier's process may not do, by means that any user of Linux has, in a restricted pod too.

- seccomp (a filter of system calls, inherited and never lifted): no network, no new processes or programs,
  no signals to others, no tracing, and no change to any file. Where the kernel refuses a filter, or on a
  processor whose calls are not listed here, code of others is not run at all (`problem`).
- Landlock, where the kernel has it (5.13 or newer, most distributions): files are read only below folders of
  programs and libraries, so neither data nor secrets. Without it they can be read, and go nowhere.
- Resource limits: address space, processor time, open files, the size of what is written to files that are
  open already, no core dumps.

Namespaces are not used: a restricted pod may make none.
"""

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Iterable
from functools import cache

OUTPUT_BYTES = 2**20
"""Most bytes that a confined process can write to a file that it was given."""
OPEN_FILES = 64

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 1, 38, 22, 2
_KILL, _ERRNO, _ALLOW = 0x8000_0000, 0x0005_0000, 0x7FFF_0000
_EPERM, _ENOSYS, _EACCES = 1, 38, 13
_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_CLONE_THREAD = 0x10000
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_X32 = 0x4000_0000
"""Calls of x86-64 from this number on are those of another table, and would evade the filter."""

_ARCHITECTURES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}

_FORBIDDEN: dict[str, tuple[int | None, int | None]] = {
    # Network, but for socketpair, which event loops need.
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242),
    # Processes and programs; clone and clone3 are below.
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    # Signals, and the memory and descriptors of others.
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "setpgid": (109, 154), "setsid": (112, 157), "setpriority": (141, 140),
    "sched_setaffinity": (203, 122),
    # Files by path, and the size, mode and owner of open ones.
    "creat": (85, None), "truncate": (76, 45), "unlink": (87, None), "unlinkat": (263, 35),
    "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276), "link": (86, None),
    "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "mkdir": (83, None),
    "mkdirat": (258, 34), "rmdir": (84, None), "mknod": (133, None), "mknodat": (259, 33),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55),
    "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    # What lives on after the process, leads around all this, or is for who runs the machine.
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180), "mount": (165, 40),
    "umount2": (166, 39), "unshare": (272, 97), "setns": (308, 268), "chroot": (161, 51), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "mount_setattr": (442, 442), "pivot_root": (155, 41),
    "reboot": (169, 142), "settimeofday": (164, 170), "clock_settime": (227, 112), "swapon": (167, 224),
    "swapoff": (168, 225), "sethostname": (170, 161), "setdomainname": (171, 162), "acct": (163, 89),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "iopl": (172, None), "ioperm": (173, None),
}  # fmt: skip
"""Numbers of calls that fail with EPERM, on x86_64 and aarch64 (arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h of Linux). One that is newer than these tables finds no way out that is not
through a descriptor opened before."""

_ABSENT = {"clone3": (435, 435), "openat2": (437, 437)}
"""Their arguments lie in memory, where a filter cannot look: libc and Python do without them."""
_CLONE, _OPEN, _OPENAT, _PRLIMIT = (56, 220), (2, None), (257, 56), (302, 261)

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_EXECUTE, _READ_FILE, _READ_DIR = 1, 4, 8


def problem() -> str:
    """Why code of others cannot be confined on this machine; empty where it can be."""
    if platform.system() != "Linux" or platform.machine() not in _ARCHITECTURES:
        return f"its kernel or processor is not known to ixt ({platform.system()}, {platform.machine()})"
    # With a pointer to nothing the kernel says EFAULT where it has filters, EINVAL where it has none.
    libc = _libc()
    libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, 0, 0, 0)
    if ctypes.get_errno() != 14:
        return "its kernel has no filters of system calls (seccomp)"
    return ""


def limit(memory: int, cpu_seconds: int) -> None:
    """Bound this process and those that it forks, in bytes of address space and seconds of processor time."""
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, OUTPUT_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (allowed, allowed))


def confine(*, threads: bool) -> None:
    """Take from this process for good what it needs to do harm; `threads`: it may still start threads.

    Raises OSError where the kernel refuses.
    """
    _check(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _only_libraries_are_read()
    program = _filter(threads=threads)
    instructions = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(instructions))
    pointer = ctypes.create_string_buffer(described, len(described))
    _check(_libc().prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.c_void_p(ctypes.addressof(pointer)), 0, 0))


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends."""
    _check(_libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))


def _filter(*, threads: bool) -> bytes:
    """The filter, in the language of classic BPF. `seccomp_data` has the call's number at 0, the architecture
    at 4, and the lower half of argument n at 16 + 8 n."""
    column = list(_ARCHITECTURES).index(platform.machine())
    done = [_code(_LOAD, 4), _code(_EQUAL, _ARCHITECTURES[platform.machine()], 1, 0), _code(_RETURN, _KILL)]
    done.append(_code(_LOAD, 0))
    if column == 0:
        done += [_code(_AT_LEAST, _X32, 0, 1), _code(_RETURN, _ERRNO | _ENOSYS)]
    for numbers, error in ((_FORBIDDEN, _EPERM), (_ABSENT, _ENOSYS)):
        for each in numbers.values():
            done += _refused(each[column], error)
    if threads:
        # Of clone, only what starts a thread.
        done += _looked_at(
            _CLONE[column], 0, [_code(_ANY_BIT, _CLONE_THREAD, 1, 0), _code(_RETURN, _ERRNO | _EPERM)]
        )
    else:
        done += _refused(_CLONE[column], _EPERM)
    # The limits of no other process than this.
    done += _looked_at(_PRLIMIT[column], 0, [_code(_EQUAL, 0, 1, 0), _code(_RETURN, _ERRNO | _EPERM)])
    for call, argument in ((_OPEN[column], 1), (_OPENAT[column], 2)):
        done += _looked_at(call, argument, [_code(_ANY_BIT, _WRITES, 0, 1), _code(_RETURN, _ERRNO | _EACCES)])
    return b"".join([*done, _code(_RETURN, _ALLOW)])


def _refused(number: int | None, error: int) -> list[bytes]:
    if number is None:
        return []
    return [_code(_EQUAL, number, 0, 1), _code(_RETURN, _ERRNO | error)]


def _looked_at(number: int | None, argument: int, rule: list[bytes]) -> list[bytes]:
    """A rule about an argument of a call, which is allowed where the rule does not end it."""
    if number is None:
        return []
    body = [_code(_LOAD, 16 + 8 * argument), *rule, _code(_RETURN, _ALLOW)]
    return [_code(_EQUAL, number, 0, len(body)), *body]


def _code(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _only_libraries_are_read() -> None:
    """Let this process read files only below folders of programs and libraries, where the kernel can."""
    libc = _libc()
    handled = ctypes.c_uint64((1 << 13) - 1)
    ruleset = libc.syscall(_LANDLOCK_CREATE, ctypes.byref(handled), ctypes.c_size_t(8), 0)
    if ruleset < 0:
        return
    try:
        for folder in _libraries():
            place = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            allowed = struct.pack("=Qi", _EXECUTE | _READ_FILE | _READ_DIR, place)
            rule = ctypes.create_string_buffer(allowed, len(allowed))
            _check(libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0))
            os.close(place)
        _check(libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0))
    finally:
        os.close(ruleset)


def _libraries() -> Iterable[str]:
    """Folders that programs and Python's modules lie in. Not the present folder, which may hold data."""
    system = ("/usr", "/lib", "/lib64", "/bin", "/opt")
    own = (sys.prefix, sys.base_prefix, sys.exec_prefix, *(path for path in sys.path if path))
    return (folder for folder in dict.fromkeys((*system, *own)) if os.path.isdir(folder))  # noqa: PTH112


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
