"""What a plan begins with where pictures have the network's size already: kernels that read their bytes."""

from __future__ import annotations

from types import ModuleType

from ssdrt.engines.cuda import first, stem
from ssdrt.engines.cuda.plan import Plan
from ssdrt.model import SsdModel
from ssdrt.preprocess import resized_size

FRONTS: tuple[ModuleType, ...] = (stem, first)
"""Each has `FILE`, and `fits`, `steps`, `kernels` and `launch`; the first that fits is taken."""


def front_of(plan: Plan, model: SsdModel) -> ModuleType | None:
    """What reads the bytes, if the resizer leaves pictures of that size alone and something can."""
    resizer, size = model.preprocessing.resizer.value, model.input_size
    if resized_size(resizer, *size) != size:
        return None
    return next((one for one in FRONTS if one.fits(plan, model)), None)


def front_in(files: set[str]) -> ModuleType | None:
    """The one whose machine code is in a plan."""
    return next((one for one in FRONTS if one.FILE in files), None)
