"""What goes wrong in an export, in one line that says what to do."""

from contract.command_line import CommandError


class ExportError(CommandError):
    """The run, the model or the target directory cannot be exported; the message is one line."""
