"""Training and evaluation of the networks of the package."""

from sciml_bounds.errors import TrainingError
from sciml_bounds.training._evaluation import Evaluation, Rollout, evaluate, evaluate_rollout
from sciml_bounds.training._settings import TrainingSettings
from sciml_bounds.training._trainer import train
from sciml_bounds.training._training_result import TrainingResult

__all__ = [
    "Evaluation",
    "Rollout",
    "TrainingError",
    "TrainingResult",
    "TrainingSettings",
    "evaluate",
    "evaluate_rollout",
    "train",
]
