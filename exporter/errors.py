"""What goes wrong in an export, in one line that says what to do."""


class ExportError(Exception):
    """The run, the model or the target directory cannot be exported; the message is one line."""
