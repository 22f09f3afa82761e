"""Close the process that answers requests to the code of files (https://docs.kernel.org/userspace-api/landlock.html).

sandlock does not let a process close its own memory with prctl(2). A process in a Landlock domain of its own cannot
open the memory and the pipes of processes outside this domain.
"""

import ctypes
import os
import struct

CREATE_RULESET, RESTRICT_SELF = 444, 446  # system call numbers on all architectures
MAKE_BLOCK_DEVICE = 1 << 11  # a domain has to refuse something; no model needs this


def enter_own_domain() -> None:
    """Put this process and its future children into a Landlock domain of their own, if the kernel supports that."""
    libc = ctypes.CDLL(None)
    attributes = struct.pack("=Q", MAKE_BLOCK_DEVICE)
    ruleset = libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset >= 0:
        libc.syscall(RESTRICT_SELF, ruleset, 0)
        os.close(ruleset)
