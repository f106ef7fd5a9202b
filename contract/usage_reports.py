"""Libraries here report nothing to their makers.

ONNX Runtime on Linux does so from 1.29: at its import it writes an id of the machine and a data base under the home
directory and starts a thread, which sends what it collects (https://github.com/microsoft/onnxruntime/pull/27379). Its
`disable_telemetry_events` comes too late for all that.
"""

from __future__ import annotations

import os
from typing import Final

_OFF: Final = {
    "ORT_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def turn_off() -> None:
    """Turn all reports off; call it before such a library is imported. A variable that is set already stays."""
    for name, value in _OFF.items():
        os.environ.setdefault(name, value)  # noqa: TID251 (the libraries have no other way to be told in time)
