"""The exceptions pyimportance raises on purpose. Their types and texts are API.

Every message says which argument, file, member or offset, what was found there, and what is allowed.
"""

from __future__ import annotations

from os import PathLike


class PyimportanceError(Exception):
    """Base of every error below; the command line turns it into one line and exit status 2."""


class ArgumentError(PyimportanceError, ValueError):
    """An argument (or a combination of arguments) has a value that is not allowed."""


class DataError(PyimportanceError, ValueError):
    """A file that was read is broken or is not what it should be.

    ``path``, ``member`` (name in the tar, or sample key) and ``offset`` (bytes) say where, as far as known.
    It can be made of a message alone, as unpickling and DataLoader do with one from another process.
    """

    def __init__(
        self,
        problem: str,
        *,
        path: str | PathLike[str] = "",
        member: str | None = None,
        offset: int | None = None,
    ) -> None:
        where = str(path)
        if member is not None:
            shown = member if len(member) <= 200 else f"{member[:200]}..."
            where += f", member {shown!r}"
        if offset is not None:
            where += f", offset {offset}"
        super().__init__(f"{where}: {problem}" if where else problem)
        self.problem, self.path, self.member, self.offset = problem, str(path), member, offset


class OutputError(PyimportanceError, OSError):
    """Something could not be written: the disk is full, or the place holds something else."""
