"""Errors of an export: one line with the problem and the remedy."""

from contract.command_line import CommandError


class ExportError(CommandError):
    """The run, the model or the target directory cannot be exported; the message is one line."""
