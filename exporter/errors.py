"""Errors of an export: one line with the problem and the remedy."""

from contract.command_line import CommandError, one_line


class ExportError(CommandError):
    """The run, the model or the target directory cannot be exported; the message is one line."""


def cause_of(error: BaseException) -> str:
    """Return another library's message as one line of at most 300 characters."""
    return one_line(str(error))[:300]
