"""The filter of system calls, which is the same in both sandboxes.

It is a program of classic BPF (https://docs.kernel.org/userspace-api/seccomp_filter.html) that the kernel runs for each
system call of the child. It returns an error for the calls below. A system call of another architecture, whose numbers
differ, ends the process. bubblewrap reads the filter from a pipe; in sandlock, whose own filter allows SOCK_PACKET, the
child installs it before it opens the file.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager

AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h, by platform.machine()
REFUSED_CALLS = {  # numbers on (x86_64, aarch64); None if there is no such call
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "msgctl": (71, 187),
    "msgget": (68, 186),
    "msgrcv": (70, 188),
    "msgsnd": (69, 189),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "semctl": (66, 191),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmdt": (67, 197),
    "shmget": (29, 194),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}
CLONE = (56, 220)
CLONE3 = (435, 435)  # its flags are in memory, which a filter cannot read; libc then falls back to clone
SOCKET = (41, 198)

X32_BIT = 0x40000000  # set in the numbers of x86_64's 32-bit variant
NAMESPACE_FLAGS = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET
ALLOWED_SOCKET_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET and AF_INET6; AF_VSOCK would reach the host
SOCKET_TYPE_MASK = 0xF
RAW_SOCKET_TYPES = (3, 10)  # SOCK_RAW and SOCK_PACKET

LOAD, AND, RETURN = 0x20, 0x54, 0x06  # opcodes of linux/bpf_common.h and linux/filter.h
JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, JUMP_IF_ANY_BIT = 0x15, 0x35, 0x45
NUMBER, ARCHITECTURE, FIRST_ARGUMENT, SECOND_ARGUMENT = 0, 4, 16, 24  # offsets in struct seccomp_data; low halves
ALLOW, KILL_PROCESS, ERROR = 0x7FFF0000, 0x80000000, 0x00050000

INSTRUCTION_FORMAT = "=HBBI"  # struct sock_filter
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2  # prctl(2)
Instruction = tuple[int, int, int, int]  # opcode, instructions to skip if true, if false, constant


def seccomp_program(machine: str = "") -> bytes:
    """Return the compiled filter for a machine, such as "x86_64"; b"" if its system calls are not known here.

    Args:
        machine: See `platform.machine`; "" stands for this machine.
    """
    machine = machine or platform.machine()
    if machine not in AUDIT_ARCHITECTURES:
        return b""
    column = list(AUDIT_ARCHITECTURES).index(machine)
    program = [
        (LOAD, 0, 0, ARCHITECTURE),
        *_unless(JUMP_IF_EQUAL, AUDIT_ARCHITECTURES[machine], KILL_PROCESS),
        (LOAD, 0, 0, NUMBER),
        *(_if(JUMP_IF_AT_LEAST, X32_BIT, KILL_PROCESS) if machine == "x86_64" else ()),
    ]
    for numbers in REFUSED_CALLS.values():
        number = numbers[column]
        if number is not None:
            program += _if(JUMP_IF_EQUAL, number, ERROR | errno.EPERM)
    program += _if(JUMP_IF_EQUAL, CLONE3[column], ERROR | errno.ENOSYS)
    program += _for_call(CLONE[column], _clone_rules())
    program += _for_call(SOCKET[column], _socket_rules())
    program.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack(INSTRUCTION_FORMAT, *instruction) for instruction in program)


@contextmanager
def seccomp_pipe() -> Iterator[int]:
    """Yield the descriptor of a pipe from which bubblewrap can read the filter for this machine."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb"):
        with os.fdopen(writer, "wb") as file:
            file.write(seccomp_program())
        yield reader


def install_filter() -> None:
    """Put this process and its future children under the filter, for good."""
    program = seccomp_program()
    if not program:
        return
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // struct.calcsize(INSTRUCTION_FORMAT), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the filter of system calls cannot be installed")


def _if(jump: int, constant: int, result: int) -> list[Instruction]:
    """Return a result if the comparison is true."""
    return [(jump, 0, 1, constant), (RETURN, 0, 0, result)]


def _unless(jump: int, constant: int, result: int) -> list[Instruction]:
    """Return a result if the comparison is false."""
    return [(jump, 1, 0, constant), (RETURN, 0, 0, result)]


def _for_call(number: int, rules: list[Instruction]) -> list[Instruction]:
    """Apply rules, which may overwrite the loaded value, to one system call; it is allowed if none refuses it."""
    return [(JUMP_IF_EQUAL, 0, len(rules) + 1, number), *rules, (RETURN, 0, 0, ALLOW)]


def _clone_rules() -> list[Instruction]:
    """Refuse new namespaces."""
    return [(LOAD, 0, 0, FIRST_ARGUMENT), *_if(JUMP_IF_ANY_BIT, NAMESPACE_FLAGS, ERROR | errno.EPERM)]


def _socket_rules() -> list[Instruction]:
    """Refuse all families but those of local and Internet sockets, and raw sockets of these."""
    last = len(ALLOWED_SOCKET_FAMILIES)
    families: list[Instruction] = [
        (JUMP_IF_EQUAL, last - position, 0, family) for position, family in enumerate(ALLOWED_SOCKET_FAMILIES)
    ]
    rules: list[Instruction] = [
        (LOAD, 0, 0, FIRST_ARGUMENT),
        *families,
        (RETURN, 0, 0, ERROR | errno.EPERM),
        (LOAD, 0, 0, SECOND_ARGUMENT),
        (AND, 0, 0, SOCKET_TYPE_MASK),
    ]
    for kind in RAW_SOCKET_TYPES:
        rules += _if(JUMP_IF_EQUAL, kind, ERROR | errno.EPERM)
    return rules
