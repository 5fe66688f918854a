"""The system call filters of a process, taken from the kernel and put around another.

    kernel.py take PID > FILTERS           the filters that a process is under
    kernel.py under FILTERS PROGRAM ARG... a program under the same, but what they
                                           refuse ends it with SIGSYS

Two refusals stay what they are. ENOSYS is how systemd answers for system calls
that the list does not know, and for clone3, whose flags a filter cannot see:
libraries then use an older one. And the limit on open files, for which Go asks at
each start, and does without the answer.
"""

import base64
import ctypes
import json
import os
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
libc.ptrace.restype = ctypes.c_long

SEIZE, INTERRUPT, DETACH, GET_FILTER = 0x4206, 0x4207, 17, 0x420C
RETURN, LOAD, JUMP, EQUAL = 0x06, 0x20, 0x05, 0x15
ERRNO, TRAP = 0x00050000, 0x00030000
ENOSYS = 38
LIMIT = {"x86_64": 302, "aarch64": 261}[os.uname().machine]  # prlimit64


def call(f, *args):
    result = f(*args)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def take(pid):
    """Each filter as its instructions, newest first."""
    call(libc.ptrace, SEIZE, pid, 0, 0)
    call(libc.ptrace, INTERRUPT, pid, 0, 0)
    os.waitpid(pid, 0x40000000)  # __WALL
    filters = []
    try:
        while True:
            try:
                count = call(libc.ptrace, GET_FILTER, pid, len(filters), 0)
            except OSError as e:
                if e.errno == 2 and filters:  # ENOENT: that was the last
                    break
                raise
            code = ctypes.create_string_buffer(8 * count)
            call(libc.ptrace, GET_FILTER, pid, len(filters), ctypes.addressof(code))
            filters.append(base64.b64encode(code.raw).decode())
    finally:
        libc.ptrace(DETACH, pid, 0, 0)
    return filters


def strict(code):
    """A filter whose refusals end the process."""
    all_of = [struct.unpack_from("=HBBI", code, 8 * i) for i in range(len(code) // 8)]
    changed = 0
    tail = []
    for i, (op, yes, no, k) in enumerate(all_of):
        if op == RETURN and k & 0xFFFF0000 == ERRNO and k & 0xFFFF != ENOSYS:
            all_of[i] = (JUMP, 0, 0, len(all_of) + len(tail) - i - 1)
            tail += [(LOAD, 0, 0, 0), (EQUAL, 0, 1, LIMIT), (RETURN, 0, 0, k), (RETURN, 0, 0, TRAP)]
            changed += 1
    return b"".join(struct.pack("=HBBI", *x) for x in all_of + tail), changed


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def under(filters, argv):
    changed = 0
    call(libc.prctl, 38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    programs = []
    for text in reversed(filters):
        code, n = strict(base64.b64decode(text))
        changed += n
        programs.append(code)
    if not changed:
        sys.exit("these filters refuse nothing")
    path = argv[0]
    # What Python itself does at the end must not be judged: execve comes at once.
    held = [(c, ctypes.create_string_buffer(c, len(c))) for c in programs]
    made = [Program(len(c) // 8, ctypes.addressof(b)) for c, b in held]
    for p in made:
        call(libc.prctl, 22, 2, ctypes.byref(p), 0, 0)  # PR_SET_SECCOMP
    os.execv(path, argv)


if sys.argv[1] == "take":
    json.dump(take(int(sys.argv[2])), sys.stdout)
else:
    with open(sys.argv[2]) as f:
        text = json.load(f)
    under(text, sys.argv[3:])
