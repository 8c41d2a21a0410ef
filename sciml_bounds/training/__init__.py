"""Training and evaluation of the networks of the package."""

from sciml_bounds.bounds._network_predictions import predict
from sciml_bounds.errors import TrainingError
from sciml_bounds.training._bound_metric import CertifiedBound
from sciml_bounds.training._evaluation import Evaluation, Rollout, evaluate, evaluate_rollout
from sciml_bounds.training._settings import TrainingSettings
from sciml_bounds.training._trainer import train
from sciml_bounds.training._training_result import TrainingResult

__all__ = [
    "CertifiedBound",
    "Evaluation",
    "Rollout",
    "TrainingError",
    "TrainingResult",
    "TrainingSettings",
    "evaluate",
    "evaluate_rollout",
    "predict",
    "train",
]
