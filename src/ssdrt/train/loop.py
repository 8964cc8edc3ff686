"""The training itself: steps, evaluations and checkpoints, so that a killed one ends as it would have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssdrt.train.augment import augment
from ssdrt.train.checkpoint import State, load_checkpoint, save_checkpoint
from ssdrt.train.data import Examples, draw
from ssdrt.train.losses import box_loss, faithfulness_loss, focal_loss, softmax_loss
from ssdrt.train.network import Weights, run_network, weights_of
from ssdrt.train.optimiser import average, make_optimiser, set_rate
from ssdrt.train.settings import Settings
from ssdrt.train.targets import make_targets

if TYPE_CHECKING:
    from torch import Tensor

    from ssdrt.model import SsdModel

CLIPPED = 10.0  # the gradient's norm
CHANNELS_LAST = True


@dataclass(frozen=True)
class Teacher:
    """The model that a training began with, in its original classes: what `keep` is faithful to.

    pairs: (index among the new classes, index among its own) of the classes that both know.
    """

    model: SsdModel
    weights: Weights
    pairs: Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Run:
    """What a training needs besides its examples.

    normed: convolutions that train with a batch norm.
    measure: AP and AP50 by class of averaged weights; None where there is nothing to measure on.
    report: called after each evaluation with the history so far and the averaged weights.
    advance: called with 1 after each step.
    minutes: after which to stop, with a checkpoint to go on from.
    """

    model: SsdModel
    settings: Settings
    checkpoint: Path
    identity: dict[str, str]
    teacher: Teacher | None = None
    normed: Sequence[str] = ()
    measure: Callable[[Weights], dict[str, tuple[float, float]]] | None = None
    report: Callable[[State, Weights], None] = lambda _history, _weights: None
    advance: Callable[[int], None] = lambda _: None
    minutes: float | None = None


def train(run: Run, examples: Examples) -> tuple[Weights, State]:
    """The averaged weights, and the history: of each step its losses, and what was measured after which.

    The history is shorter than the steps when the minutes were over.

    Every step draws its random numbers from the seed and its own number, so it does not matter where a training was
    cut: on a processor the result is the same to the last bit.

    Raises
    ------
    SourceError: the checkpoint cannot be used.
    """
    import torch

    begin = time.monotonic()
    device = examples.pictures.device
    weights = weights_of(run.model, device, normed=run.normed)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # all batches have one shape
        if CHANNELS_LAST:
            _channels_last(weights)
    averaged = {name: value.detach().clone() for name, value in weights.items()}
    optimiser = make_optimiser(run.model, weights, run.settings)
    state = load_checkpoint(run.checkpoint, run.identity, device)
    history: State = {"loss": [], "measured": []}
    first = 0
    if state is not None:
        first, history = state["step"], state["history"]
        _restore(weights, state["weights"])
        _restore(averaged, state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        run.advance(first)
    pending: list[Tensor] = []
    for step in range(first, run.settings.steps):
        set_rate(optimiser, run.settings, step)
        pending.append(_step(run, weights, optimiser, examples, step))
        average(averaged, weights, step)
        run.advance(1)
        last = step + 1 == run.settings.steps
        over = run.minutes is not None and time.monotonic() - begin > 60 * run.minutes
        if last or over or (step + 1) % run.settings.every == 0:
            history["loss"] += torch.stack(pending).tolist()
            pending.clear()
            if run.measure is not None and (last or (step + 1) % run.settings.every == 0):
                history["measured"].append([step + 1, {k: list(v) for k, v in run.measure(averaged).items()}])
            run.report(history, averaged)
            saved = {"step": step + 1, "weights": weights, "averaged": averaged, "optimiser": optimiser.state_dict()}
            save_checkpoint(run.checkpoint, run.identity, {**saved, "history": history})
            if over and not last:
                return averaged, history
    return averaged, history


def _step(run: Run, weights: Weights, optimiser: Any, examples: Examples, step: int) -> Tensor:
    """One batch; its losses: of boxes, of classes, of faithfulness, a picture's or an object's mean."""
    import torch

    device = examples.pictures.device
    generator = torch.Generator(device)
    generator.manual_seed(run.settings.seed * 1_000_003 + step)
    with torch.no_grad():
        pictures, objects, labelled = draw(examples, run.settings.batch, generator)
        pixels, objects = augment(pictures, objects, generator)
        if device.type == "cuda" and CHANNELS_LAST:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        anchors = torch.from_numpy(run.model.anchors.value).to(device)
        targets = make_targets(anchors, objects, run.model.num_classes.value, run.model.box_coder.scales.value)
    with torch.autocast(device.type, torch.bfloat16, enabled=run.settings.bf16):
        encodings, logits = run_network(run.model, weights, pixels, training=True)
    logits = logits / run.model.score_converter.logit_scale.value
    background = run.model.score_converter.background.value != "none"
    count = (targets.classes >= 0).sum().clamp(min=1)
    if run.model.score_converter.function.value == "softmax":
        of_classes = softmax_loss(logits, targets, labelled) / count
    else:
        logits = logits[..., 1:] if background else logits
        of_classes = focal_loss(logits, targets, labelled) / count
    of_boxes = box_loss(encodings, targets) / count
    of_keeping = torch.zeros((), device=device)
    if run.teacher is not None:
        of_keeping = _faithfulness(run, run.teacher, pixels, encodings, logits, targets)
    optimiser.zero_grad(set_to_none=True)
    (of_boxes + of_classes + run.settings.keep * of_keeping).backward()
    torch.nn.utils.clip_grad_norm_([value for value in weights.values() if value.requires_grad], CLIPPED)
    optimiser.step()
    return torch.stack([of_boxes, of_classes, of_keeping]).detach()


def _faithfulness(
    run: Run, teacher: Teacher, pixels: Tensor, encodings: Tensor, logits: Tensor, targets: Any
) -> Tensor:
    import torch

    mine, theirs = (list(indices) for indices in zip(*teacher.pairs, strict=True))
    with torch.no_grad(), torch.autocast(pixels.device.type, torch.bfloat16, enabled=run.settings.bf16):
        old_encodings, old_logits = run_network(teacher.model, teacher.weights, pixels)
    background = teacher.model.score_converter.background.value != "none"
    old_logits = old_logits[..., [index + background for index in theirs]]
    return faithfulness_loss(encodings, logits[..., mine], old_encodings, old_logits, targets)


def _channels_last(weights: Weights) -> None:
    """The order in which tensor cores read kernels; in place."""
    import torch

    for name, value in weights.items():
        if value.dim() == 4:
            weights[name] = value.detach().contiguous(memory_format=torch.channels_last).requires_grad_()


def _restore(weights: Weights, saved: Weights) -> None:
    import torch

    with torch.no_grad():
        for name, value in weights.items():
            value.copy_(saved[name])
