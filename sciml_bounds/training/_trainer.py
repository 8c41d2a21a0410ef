"""The trainer for all networks of the package."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sciml_bounds.errors import InputError
from sciml_bounds.multigrid._mgno import FIELDS
from sciml_bounds.nn.evaluation_mode import evaluating
from sciml_bounds.store.datasets.network_classes import arguments_of, class_name
from sciml_bounds.store.datasets.weights import state_of, write_weights
from sciml_bounds.training._batches import (
    Samples,
    batches,
    check_samples,
    describe_samples,
    load,
    shuffled,
    size_of,
    stack_all,
)
from sciml_bounds.training._checkpoints import BEST, LAST, State, load_checkpoint, save_checkpoint
from sciml_bounds.training._display import Display, shown
from sciml_bounds.training._evaluation import check_losses, measure, require_fitting
from sciml_bounds.training._graphs import GraphedStep
from sciml_bounds.training._guard import Guard
from sciml_bounds.training._optimizers import make_optimizer, set_rates
from sciml_bounds.training._parallel import Group, joined
from sciml_bounds.training._settings import TrainingSettings, loss_for, loss_name
from sciml_bounds.training._signals import StopRequest, listening
from sciml_bounds.training._training_log import TensorBoard, write_log
from sciml_bounds.training._training_result import TrainingResult

__all__ = ["train"]

logger = logging.getLogger("sciml_bounds")

#: Called after each epoch with its row of the log; the training stops if it returns True.
type Callback = Callable[[Mapping[str, Any]], bool | None]


def train(
    model: nn.Module,
    train_set: Samples,
    validation_set: Samples | None,
    *,
    settings: TrainingSettings | None = None,
    folder: Path | str | None = None,
    resume: bool = False,
    progress: bool = False,
    tensorboard: bool = False,
    callback: Callback | None = None,
    card: Mapping[str, Any] | None = None,
    **options: Any,
) -> TrainingResult:
    """Train a network.

    Parameters
    ----------
    model : torch.nn.Module
        The network; it is modified in place. If it has a method `fit_normalizer(x, y)`, this is called once with all
        training samples before the first step.
    train_set, validation_set : Samples, Samples or None
        Map-style data sets of pairs (x, y) of tensors (channel, *space). The best epoch is chosen on the validation
        data; if None, the last epoch is used. The test split is not accepted for either.
    settings : TrainingSettings or None
        The settings; or give its fields as keyword arguments.
    folder : Path, str or None
        Folder for `last.safetensors` (the checkpoint), `best.safetensors` (the network with the weights of the best
        epoch, for `load_model`), `log.csv` and `log.jsonl`. If None, no files are written.
    resume : bool
        Resume from the checkpoint in the folder, if there is one. On the CPU, the result is the same bit for bit.
        More epochs than before lengthen a training, also one that is complete; the learning rate of "onecycle" then
        continues on the longer cycle.
    progress : bool
        Show a progress bar with the remaining time on stderr.
    tensorboard : bool
        Also write curves for TensorBoard into the folder.
    callback : callable or None
        Called after each epoch with its row of the log; the training stops if it returns True.
    card : mapping or None
        Additional entries for the model card, in JSON types.
    **options
        Fields of `TrainingSettings`, if `settings` is not given.

    Returns
    -------
    TrainingResult
        The result; the model has the weights of the best epoch.

    Raises
    ------
    InputError
        If an argument is invalid.
    TrainingError
        If loss or gradient are not finite; the last good checkpoint is kept.

    Notes
    -----
    With a folder, the training completes the current step and its checkpoint after SIGINT or SIGTERM, before the signal
    takes effect; a second signal takes effect at once. Under `torchrun`, each process computes its share of every
    batch.

    Examples
    --------
    >>> import torch
    >>> x = torch.randn(40, 1, 8)
    >>> data = torch.utils.data.TensorDataset(x, 2 * x)
    >>> mse = lambda prediction, target, inputs: (prediction - target).square().flatten(1).mean(1)
    >>> model = torch.nn.Conv1d(1, 1, 1)
    >>> result = train(model, data, None, loss=mse, select=mse, epochs=60, lr=0.3, weight_decay=0.0)
    >>> bool((model.weight - 2).abs().max() < 1e-2)
    True
    """
    if settings is not None and options:
        raise InputError(f"both settings= and {next(iter(options))}= are given; use only one of them.")
    chosen = settings if settings is not None else TrainingSettings.of(options)
    require_fitting(model, loss=chosen.loss)
    if validation_set is not None:
        require_fitting(model, select=chosen.select)
    check_samples(train_set, "training data", "train")
    if validation_set is not None:
        check_samples(validation_set, "validation data", "validation")
    elif chosen.patience is not None:
        raise InputError("patience needs validation data to compare epochs; give a validation set.")
    _check_fields(model, train_set)
    where = _folder(folder, resume=resume, tensorboard=tensorboard)
    with ExitStack() as stack:
        group = stack.enter_context(joined(chosen.device))
        cuda = [group.device] if group.device.type == "cuda" else []
        stack.enter_context(torch.random.fork_rng(cuda))
        if cuda:
            stack.enter_context(torch.cuda.device(group.device))
        stop = stack.enter_context(listening()) if where is not None else StopRequest()
        trainer = _Trainer(model, train_set, validation_set, chosen, group, where, stop, dict(card or {}))
        trainer.start(resume=resume)
        trainer.run(callback, progress=progress and group.is_first, tensorboard=tensorboard and group.is_first)
        result = trainer.result()
    if stop.number and where is not None and group.is_first:
        logger.info("the checkpoint %s is complete; resume from it.", where / LAST)
    stop.raise_again()
    return result


def _check_fields(model: nn.Module, samples: Samples) -> None:
    """Check that the input fields of the data are those that the network uses in `predict`."""
    taken, given = tuple(getattr(model, "fields", ())), tuple(getattr(samples, "inputs", ()))
    if not hasattr(model, "predict") or taken == given or not given or not set(given) <= set(FIELDS):
        return
    raise InputError(
        f"the inputs of the training data are {', '.join(given)}, but {type(model).__name__}.predict uses "
        f"{', '.join(taken)}; build the network with fields={list(given)}."
    )


def _folder(folder: Path | str | None, *, resume: bool, tensorboard: bool) -> Path | None:
    """Create the folder, after checking that no other training in it would be overwritten."""
    if folder is None:
        if resume or tensorboard:
            raise InputError(f"{'resume' if resume else 'tensorboard'}=True needs a folder; give folder=.")
        return None
    path = Path(folder).resolve()
    if (path / LAST).exists() and not resume:
        raise InputError(
            f"{folder} contains a training already; continue it (resume=True, --resume), or choose another folder."
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be created: {error.strerror}; choose another.") from None
    return path


class _Trainer:
    """The state of a running training."""

    def __init__(
        self,
        model: nn.Module,
        train_set: Samples,
        validation_set: Samples | None,
        settings: TrainingSettings,
        group: Group,
        folder: Path | None,
        stop: StopRequest,
        card: dict[str, Any],
    ) -> None:
        self.model, self.train_set, self.validation_set = model, train_set, validation_set
        self.settings, self.group, self.folder, self.stop = settings, group, folder, stop
        self.loss, self.select = loss_for(model, settings.loss), loss_for(model, settings.select, "select")
        self.count = size_of(train_set)
        self.steps = -(-self.count // settings.batch_size)
        self.card = _as_json(card | self._card())
        self.state = State()
        self.reason = ""
        self.rate = settings.lr

    def _card(self) -> dict[str, Any]:
        """Return everything that determines the result, for the model card."""
        data = {"train": describe_samples(self.train_set)}
        if self.validation_set is not None:
            data["validation"] = describe_samples(self.validation_set)
        return {
            "class": class_name(type(self.model)),
            "arguments": arguments_of(self.model),
            "settings": self.settings.card(),
            "data": data,
            "parameters": sum(p.numel() for p in self.model.parameters()),
        }

    # --- start and end ------------------------------------------------------------------------------------------------

    def start(self, *, resume: bool) -> None:
        """Prepare the training: fit normalisers, or restore a checkpoint."""
        settings, group = self.settings, self.group
        checkpoint = self.folder / LAST if self.folder is not None else None
        resuming = resume and checkpoint is not None and checkpoint.exists()
        if not resuming and hasattr(self.model, "fit_normalizer"):
            self.model.to("cpu")
            like = next(self.model.parameters())
            fit: Any = self.model.fit_normalizer
            fit(*(part.to(like.dtype) for part in stack_all(self.train_set, "training data")))
        self.model.to(group.device)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        if not self.parameters:
            raise InputError(f"{type(self.model).__name__} has no weights to train.")
        self._try_metric()
        self.optimizer = make_optimizer(settings, self.parameters)
        torch.manual_seed(settings.seed + group.rank)
        if resuming:
            assert checkpoint is not None
            self.state = load_checkpoint(checkpoint, self.model, self.optimizer, self.card)
        group.spread(self.model)
        none = "No checkpoint was requested." if self.folder is None else "There is no checkpoint yet."
        self.guard = Guard(group.device, self._kept if resuming else none)
        self.sums = torch.tensor([self.state.losses, self.state.norms], dtype=torch.float64, device=group.device)
        self.backward = GraphedStep(self._backward, self.parameters) if settings.graphs else self._backward

    @property
    def _kept(self) -> str:
        return f"The last good checkpoint in {self.folder} is kept."

    def _try_metric(self) -> None:
        """Evaluate the metric on one sample, so that an unsuitable one is reported before the training."""
        if self.validation_set is not None:
            with evaluating(self.model):
                for x, y in load(self.validation_set, [[0]], "validation data", workers=0, pinned=False):
                    measure(self.model, x, y, {loss_name(self.settings.select): self.select})

    def run(self, callback: Callback | None, *, progress: bool, tensorboard: bool) -> None:
        """Train until a stopping criterion is met."""
        with ExitStack() as stack:
            board = None
            if tensorboard and self.folder is not None:
                board = TensorBoard(self.folder)
                stack.callback(board.close)
            state, epochs = self.state, self.settings.epochs
            display = stack.enter_context(shown(progress, done=state.epoch, steps=self.steps, epochs=epochs))
            for _ in range(state.step):
                display.step()
            while not self._done():
                self._epoch(display)
                if state.step < self.steps:  # stopped within the epoch
                    self._save()
                    break
                row = self._end_epoch()
                display.epoch(row)
                if board is not None:
                    board.add(row)
                if callback is not None and self.group.any(bool(callback(row))):
                    self.reason = "stopped by the callback"
                if self._done() or state.epoch % self.settings.checkpoint_every == 0:
                    self._save()

    def _done(self) -> bool:
        state, settings = self.state, self.settings
        if state.epoch >= settings.epochs:
            self.reason = "all epochs done"
        elif settings.patience is not None and state.epoch - max(state.best_epoch, 1) >= settings.patience:
            self.reason = f"no better epoch in the last {settings.patience}"
        return bool(self.reason)

    def result(self) -> TrainingResult:
        """Load the best weights into the network, and return the result."""
        if self.state.best_state:
            self.model.load_state_dict(self.state.best_state)
        return TrainingResult(
            model=self.model.eval(),
            history=tuple(self.state.history),
            best_epoch=self.state.best_epoch,
            best=self.state.best,
            reason=self.reason,
            card=self.card,
            folder=self.folder,
        )

    # --- one epoch ----------------------------------------------------------------------------------------------------

    def _epoch(self, display: Display) -> None:
        """Do the remaining steps of the current epoch."""
        state, settings, group = self.state, self.settings, self.group
        started, before = time.perf_counter(), state.seconds
        order = shuffled(self.count, settings.seed, state.epoch)
        parts = batches(order, settings.batch_size)[state.step :]
        shares = [group.share(part) for part in parts]
        stream = load(
            self.train_set,
            [share for share in shares if share],
            "training data",
            workers=settings.workers,
            pinned=group.device.type == "cuda",
        )
        self.model.train()
        for part, share in zip(parts, shares):
            stopped = self._step(next(stream) if share else None, len(part))
            state.step += 1
            display.step()
            if stopped:
                self.reason = "stopped by a signal"
                break
        self.guard.check(state.epoch)
        state.losses, state.norms = self.sums.tolist()
        state.seconds = before + time.perf_counter() - started

    def _step(self, pair: tuple[Tensor, Tensor] | None, count: int) -> bool:
        """Do one step with this process's share of a batch of `count` samples; return whether a signal was received."""
        state, settings = self.state, self.settings
        self._set_rates()
        device = self.group.device
        if pair is None:
            self._clear_gradients()
            loss = torch.zeros((), device=device)
        else:
            dtype = self.parameters[0].dtype
            x, y = (part.to(device, dtype, non_blocking=True) for part in pair)
            loss = self.backward(x, y)
        for parameter in self.parameters:
            if parameter.grad is None:  # unused here: zero, so that it decays alike in all processes
                parameter.grad = torch.zeros_like(parameter)
        # gradients are of the sum over samples, so that processes are weighted by their numbers of samples
        loss, stop_requested = self._sum_over_processes(loss)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        torch._foreach_mul_(gradients, 1.0 / count)
        norm = torch.nn.utils.get_total_norm(gradients)
        self.guard.watch(state.epoch, state.step, loss, norm)
        if settings.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, settings.clip, norm)
        self.optimizer.step()
        self.sums += torch.stack([loss.double(), norm.double()])
        return stop_requested

    def _sum_over_processes(self, loss: Tensor) -> tuple[Tensor, bool]:
        """Sum losses, gradients and stop requests over all processes."""
        if self.group.size == 1:
            return loss, self.stop.number != 0
        request = torch.tensor(float(self.stop.number != 0), device=loss.device)
        numbers = self.group.sum_gradients(self.parameters, torch.stack([loss.detach(), request.to(loss.dtype)]))
        return numbers[0], bool(numbers[1] > 0)

    def _backward(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute the sum of the losses of a batch and its gradients."""
        self._clear_gradients()
        lower = self.settings.precision == "bf16"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=lower, cache_enabled=not self.settings.graphs):
            prediction = self.model(x)
        prediction = _in_precision(prediction, y.dtype) if lower else prediction
        losses = check_losses(self.loss(prediction, y, x), y, loss_name(self.settings.loss))
        total = losses.sum()
        total.backward()
        return total.detach()

    def _clear_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def _set_rates(self) -> None:
        state, settings = self.state, self.settings
        if settings.schedule_step == "epoch":
            self.rate = set_rates(self.optimizer, settings, state.epoch, settings.epochs)
        else:
            step, steps = state.epoch * self.steps + state.step, settings.epochs * self.steps
            self.rate = set_rates(self.optimizer, settings, step, steps)

    def _end_epoch(self) -> dict[str, Any]:
        """Validate, keep the weights if they are the best, and add the epoch to the history."""
        state = self.state
        started = time.perf_counter()
        validation = self._validate()
        state.epoch += 1
        if validation is None or state.best is None or validation < state.best:
            state.best, state.best_epoch = validation, state.epoch
            state.best_state = {name: tensor.detach().cpu().clone() for name, tensor in state_of(self.model).items()}
        row = {
            "epoch": state.epoch,
            "lr": self.rate,
            "loss": state.losses / self.count,
            "validation": validation,
            "gradient_norm": state.norms / self.steps,
            "seconds": state.seconds + time.perf_counter() - started,
        }
        state.history.append(row)
        state.step, state.losses, state.norms, state.seconds = 0, 0.0, 0.0, 0.0
        self.sums.zero_()
        return row

    def _validate(self) -> float | None:
        """Return the mean of the metric over the validation data of all processes; None without data."""
        if self.validation_set is None:
            return None
        size, group = size_of(self.validation_set), self.group
        shares = [group.share(part) for part in batches(range(size), self.settings.batch_size)]
        shares = [share for share in shares if share]
        total = torch.zeros((), dtype=torch.float64, device=group.device)
        pinned = group.device.type == "cuda"
        with evaluating(self.model):
            stream = load(self.validation_set, shares, "validation data", workers=self.settings.workers, pinned=pinned)
            for x, y in stream:
                total += measure(self.model, x, y, {"select": self.select})["select"].double().sum()
        mean = float(group.sum(total)) / size
        if mean != mean or mean in (float("inf"), float("-inf")):
            raise self.guard.error(f"epoch {self.state.epoch + 1}: the metric on the validation data is not finite")
        return mean

    # --- files --------------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Write best weights, log and checkpoint; the checkpoint last, so that it is never ahead of the others."""
        if self.folder is None or not self.group.is_first:
            return
        state = self.state
        if state.best_state:
            metrics = {f"validation {self.card['settings']['select']}": state.best}
            card = self.card | {"content": "Weights", "epoch": state.best_epoch, "metrics": metrics}
            write_weights(self.folder / BEST, state.best_state, card)
        write_log(self.folder, state.history)
        save_checkpoint(self.folder, self.model, self.optimizer, state, self.card)
        self.guard.kept = self._kept


def _as_json(card: dict[str, Any]) -> dict[str, Any]:
    """Return a card as it will be read back from JSON."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(card, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the card cannot be written as JSON ({error}); use text, finite numbers, lists and mappings."
        ) from None
    return plain


def _in_precision(prediction: Any, dtype: torch.dtype) -> Any:
    """Convert the output of a network under autocast to the precision of the loss."""
    if isinstance(prediction, Tensor):
        return prediction.to(dtype)
    return type(prediction)(_in_precision(part, dtype) for part in prediction)
