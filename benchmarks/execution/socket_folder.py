"""The folder in which multiprocessing creates its sockets."""

import os
import tempfile
from multiprocessing.util import get_temp_dir

MAX_SOCKET_PATH_BYTES = 107  # unix(7)
SOCKET_NAME_BYTES = len("/pymp-12345678/listener-12345678")  # of the fork server's socket in the temporary folder
SHORT_FOLDER = "/tmp"  # multiprocessing creates a private folder in it


def use_short_socket_folder() -> None:
    """Create sockets in /tmp if a path in TMPDIR would be too long for a socket, as in jobs of Slurm, Bazel or Nix.

    All other temporary files stay in TMPDIR. Python 3.14 does the same (https://github.com/python/cpython/pull/132126).
    """
    if len(os.fsencode(tempfile.gettempdir())) + SOCKET_NAME_BYTES <= MAX_SOCKET_PATH_BYTES:
        return
    previous, tempfile.tempdir = tempfile.tempdir, SHORT_FOLDER
    try:
        get_temp_dir()  # creates the folder on the first call, and returns the same one from then on
    finally:
        tempfile.tempdir = previous
