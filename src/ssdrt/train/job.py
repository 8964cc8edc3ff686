"""One training from files to files: everything is checked before the first step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from ssdrt.errors import EngineError, ModelError, SourceError, import_extra
from ssdrt.evaluate import read_data_set
from ssdrt.evaluate.data_set import DataSet, listed, only
from ssdrt.export import write_frozen_graph
from ssdrt.labels import write_labels
from ssdrt.model import SsdModel
from ssdrt.sinks.base import whole_file
from ssdrt.train.checkpoint import identity
from ssdrt.train.classes import kept_classes, with_classes
from ssdrt.train.data import check_trainable, join_classes, load_examples, with_sizes
from ssdrt.train.loop import Run, Teacher, train
from ssdrt.train.measure import measure
from ssdrt.train.network import Weights, to_model, weights_of
from ssdrt.train.report import State, draw_history, draw_predictions
from ssdrt.train.settings import Settings

Watch = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows progress: takes what is being done and of how many units, gives what is told of units done."""


@dataclass(frozen=True)
class Labelled:
    """A data set as files: annotations, a COCO json or a folder of label files, and the folder of the pictures."""

    annotations: str
    images: str


@dataclass(frozen=True)
class Job:
    """What a training begins with and where it goes.

    model: before it gets its new classes; normed: convolutions of it that train with a batch norm.
    train, held_out: at least one, and any number, which measure only.
    classes: names of the classes to learn; none for all that the data sets label.
    output: the .pb; what lies beside it is named after it.
    device: of torch. half: weights are kept in float16.
    """

    model: SsdModel
    normed: tuple[str, ...]
    train: tuple[Labelled, ...]
    held_out: tuple[Labelled, ...]
    classes: tuple[str, ...]
    output: Path
    settings: Settings
    device: str
    half: bool = False
    minutes: float | None = None


@dataclass(frozen=True)
class Outcome:
    """finished: False when the minutes were over before the steps. files: that were written. history: see `loop`."""

    finished: bool
    files: tuple[Path, ...]
    history: State


def run_job(job: Job, watch: Watch) -> Outcome:
    """Train and write OUT.pb, OUT.labels.txt, OUT.history.png and OUT.predictions.jpg.

    OUT.checkpoint, from which a training goes on that was stopped or killed, is deleted at the end.

    Raises
    ------
    SsdrtError: something is wrong with the data sets, the model or the device; or a file cannot be written.
    """
    device = usable_device(job.device)
    data_sets, held_out = ([_read(one, job.classes) for one in group] for group in (job.train, job.held_out))
    classes = join_classes(data_sets)
    _check(job, data_sets, held_out, classes)
    model = with_classes(job.model, classes, job.settings.seed)
    count = sum(len(data.pictures) for data in (*data_sets, *held_out))
    with watch("reading", count) as advance:
        examples = load_examples(data_sets, classes, model, device, advance)
        held = [load_examples([data], classes, model, device, advance) for data in held_out]
    checked = [with_sizes(data, one.sizes) for data, one in zip(held_out, held, strict=True)]

    def measured(weights: Weights) -> dict[str, tuple[float, float]]:
        found: dict[str, tuple[float, float]] = {}
        for number, (data, one) in enumerate(zip(checked, held, strict=True)):
            numbers = measure(model, weights, data, one, classes)
            found.update({_numbered(name, number, len(held)): pair for name, pair in numbers.items()})
        return found

    def report(so_far: State, weights: Weights) -> None:
        draw_history(so_far, job.settings.steps, _beside(job.output, ".history.png"))
        draw_predictions(model, weights, (held or [examples])[0], _beside(job.output, ".predictions.jpg"))

    with watch("training", job.settings.steps) as advance:
        run = Run(
            model,
            job.settings,
            _beside(job.output, ".checkpoint"),
            identity(model, data_sets, job.settings),
            _teacher(job, classes, device),
            job.normed,
            measured if held else None,
            report,
            advance,
            job.minutes,
        )
        weights, history = train(run, examples)
    finished = len(history["loss"]) == job.settings.steps
    files = [_beside(job.output, suffix) for suffix in (".history.png", ".predictions.jpg")]
    if not finished:
        return Outcome(False, (*files, run.checkpoint), history)
    trained = to_model(model, weights)
    labels = _beside(job.output, ".labels.txt")
    with whole_file(job.output) as file:
        file.write(write_frozen_graph(trained, "float16" if job.half else "float32"))
    with whole_file(labels) as file:
        file.write(write_labels(trained.labels.value))
    run.checkpoint.unlink(missing_ok=True)
    return Outcome(True, (job.output, labels, *files), history)


def usable_device(name: str) -> str:
    """The device's name for torch; "auto" is the GPU if there is one.

    Raises
    ------
    MissingExtra: torch is not installed.
    EngineError: torch has no such device here.
    """
    torch = import_extra("torch", "train", "ssdrt train")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise EngineError(f"torch has no device {name!r} here: {str(error).splitlines()[0]}") from error
    return name


def _read(files: Labelled, classes: Sequence[str]) -> DataSet:
    data = read_data_set(files.annotations, files.images)
    wanted = [name for name in classes if name in data.categories.values()]
    if classes and not wanted:
        raise SourceError(
            f"{files.annotations!r} labels none of the classes {listed(classes)}; it has "
            f"{listed(data.categories.values())}"
        )
    return only(data, wanted) if classes else data


def _check(job: Job, data_sets: Sequence[DataSet], held_out: Sequence[DataSet], classes: Sequence[str]) -> None:
    """Refuse now what would end a training, or make it useless, later."""
    for data in data_sets:
        check_trainable(data)
    missing = [name for name in job.classes if name not in classes]
    if missing:
        raise SourceError(f"no data set labels the class {missing[0]!r}; they have {listed(classes)}")
    for data in held_out:
        if not set(data.categories.values()) & set(classes):
            raise SourceError(
                f"held-out data label none of the classes that are learnt ({listed(classes)}): "
                f"{listed(data.categories.values())}"
            )
    if held_out:
        import_extra("pycocotools.cocoeval", "eval", "measuring on held-out data")
    resizer = job.model.preprocessing.resizer.value
    if resizer.kind != "fixed_shape":
        raise ModelError(
            f"the model's network has another size for every picture ({resizer.kind}); train from one with a "
            "fixed_shape resizer"
        )
    if job.settings.keep and job.model.score_converter.function.value != "sigmoid":
        raise ModelError("--keep needs a model whose scores are sigmoids: those of softmax depend on each other")
    if job.settings.keep and not kept_classes(job.model, classes):
        raise ModelError(f"--keep: the first model knows none of the classes {listed(classes)} by name")
    if not job.output.parent.is_dir():
        raise SourceError(f"{str(job.output.parent)!r} is no folder: make it first")


def _teacher(job: Job, classes: Sequence[str], device: str) -> Teacher | None:
    if not job.settings.keep:
        return None
    pairs = kept_classes(job.model, classes)
    model = with_classes(job.model, [classes[mine] for mine, _ in pairs], 0)
    weights = weights_of(model, device)
    for value in weights.values():
        value.requires_grad_(False)
    return Teacher(model, weights, [(mine, theirs) for theirs, (mine, _) in enumerate(pairs)])


def _beside(output: Path, suffix: str) -> Path:
    return output.with_name(output.stem + suffix)


def _numbered(name: str, number: int, count: int) -> str:
    return name if count == 1 else f"{number + 1}: {name}"
