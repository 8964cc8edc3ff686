"""ssdrt: the reader and fastest runner of TensorFlow SSD graphs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ssdrt.detections import Detections
    from ssdrt.detector import Detector
    from ssdrt.errors import SsdrtError
    from ssdrt.oneliner import detect

_PUBLIC = {
    "Detections": "ssdrt.detections",
    "Detector": "ssdrt.detector",
    "SsdrtError": "ssdrt.errors",
    "detect": "ssdrt.oneliner",
}

__all__ = ["Detections", "Detector", "SsdrtError", "__version__", "detect"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import ssdrt` stays quick."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'ssdrt' has no attribute {name!r}")
