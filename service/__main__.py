"""Run the service: `python -m service`; `--help` names what it can print instead."""

from service.process import early

if __name__ == "__main__":
    early.begin()
    from service.command_line import main  # takes most of a second: after the signal handlers

    early.end(main())
