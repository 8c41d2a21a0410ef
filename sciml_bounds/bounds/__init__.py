"""Error bounds for computed fields: guaranteed certificates, intervals for linear outputs, statistical calibration."""

from sciml_bounds.bounds._calibration import (
    BoundCalibration,
    CalibratedInterval,
    CalibratedPair,
    Calibration,
    calibrate,
    calibrate_bound,
)
from sciml_bounds.bounds._certify import certify
from sciml_bounds.bounds._goals import BoundaryFlux, EffectivePermeability, Mean

__all__ = [
    "BoundCalibration",
    "BoundaryFlux",
    "CalibratedInterval",
    "CalibratedPair",
    "Calibration",
    "EffectivePermeability",
    "Mean",
    "calibrate",
    "calibrate_bound",
    "certify",
]
