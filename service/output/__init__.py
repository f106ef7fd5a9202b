"""Where log lines go: written by a thread, so that no request waits for a reader."""
