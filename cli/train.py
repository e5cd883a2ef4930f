"""hashpress train: train a hashing network from scratch or from a model file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .console import console, print_json, progress, set_threads, warn

if TYPE_CHECKING:
    from ..core.model import HashModel, Step
    from ..hashnets.retrieval.evaluate import Quality

NAME = "train"
EXAMPLES = options.examples(
    "train --system dpsh --encoder smallconv --bits 24 --data digits -o model.safetensors",
    "train --system dpsh --encoder resnet20 --bits 48 --data cifar10:cifar.tar.xz --augment flip-crop -o m.safetensors",
    "train --encoder textcnn --optimizer adam --data text:lines.jsonl.gz --device cuda -o m.safetensors",
    "train --init imported.safetensors --system dlbhc --data imagefolder:photos --epochs 5 --lr 1e-3 -o m.safetensors",
)


def verb(
    *,
    context: typer.Context,
    output: options.Output,
    system: Annotated[
        str, typer.Option("--system", metavar="NAME", help="Name from: hashpress ls systems; or module:Class.")
    ] = "dpsh",
    encoder: Annotated[
        str, typer.Option("--encoder", metavar="NAME", help="Name from: hashpress ls encoders; or module:function.")
    ] = "smallconv",
    bits: Annotated[int, typer.Option("--bits", min=1, help="Length of the code in bits.")] = 48,
    data: options.Data = "digits",
    protocol: options.Protocol = None,
    validation: Annotated[
        str | None,
        typer.Option(
            "--validation",
            metavar="N",
            help="Hold N training images (or a share, 0.1) out and report mAP on them; the same as --data SPEC?validation=N.",
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            "--init", metavar="FILE", help="Start from this model file; --encoder and --bits are taken from it."
        ),
    ] = None,
    resize: Annotated[
        str | None,
        typer.Option(
            "--resize",
            metavar="NAME",
            help="How image files become square with --data SPEC?size=N, here and wherever the model is used: stretch "
            "(default; with --init the model's), crop (the centre) or pad.",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Number of epochs.")] = 20,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Batch size.")] = 128,
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate.")] = 0.01,
    head_lr: Annotated[
        float, typer.Option("--head-lr", help="Learning rate of the hash head, as a factor of --lr.")
    ] = 1.0,
    optimizer: Annotated[str, typer.Option("--optimizer", metavar="NAME", help="Optimizer: sgd or adam.")] = "sgd",
    decay: Annotated[
        str, typer.Option("--decay", metavar="NAME", help="Learning-rate schedule: cosine, step or constant.")
    ] = "cosine",
    augment: Annotated[
        str,
        typer.Option("--augment", metavar="NAME", help="Augmentation: none, flip, crop, shift, affine or flip-crop."),
    ] = "none",
    weight_decay: Annotated[
        float, typer.Option("--weight-decay", help="Weight decay; biases and batch norms are excluded.")
    ] = 5e-4,
    momentum: Annotated[float, typer.Option("--momentum", help="Momentum of sgd; beta 1 of adam.")] = 0.9,
    warmup: Annotated[
        float, typer.Option("--warmup", help="Fraction of all steps used to warm up the learning rate.")
    ] = 0.05,
    clip: Annotated[float, typer.Option("--clip", help="Maximum norm of the gradient; 0 disables clipping.")] = 1.0,
    precision: Annotated[
        str, typer.Option("--precision", metavar="NAME", help="Precision of training: float32 or bfloat16.")
    ] = "float32",
    settings: Annotated[
        list[str],
        typer.Option("--set", metavar="NAME=VALUE", help="Setting of the system, such as eta=0.1; may be repeated."),
    ] = [],  # noqa: B006  # typer reads it and nothing writes to it
    resume: options.Resume = False,
    restart: options.Restart = False,
    force: options.Force = False,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    trust_code: options.TrustCode = False,
    threads: options.Threads = 1,
    json: options.Json = False,
) -> None:
    """Train a hashing network with one of the published systems and write a model file."""
    set_threads(threads)
    from ..core.data import load_data
    from ..core.data.spec import parse_spec
    from ..core.inputs import input_of, resized_as
    from ..core.lock import locked
    from ..hashnets.build import default_arch, untrained
    from ..hashnets.retrieval.evaluate import evaluate
    from ..hashnets.training.distributed import is_main_process
    from ..hashnets.training.schedule import Schedule
    from ..hashnets.training.train import train, training_step
    from ..modelfile.file import load, save

    schedule = Schedule(
        epochs=epochs,
        batch=batch,
        lr=lr,
        head_lr=head_lr,
        optimizer=optimizer,
        decay=decay,
        augment=augment,
        weight_decay=weight_decay,
        momentum=momentum,
        warmup=warmup,
        clip=clip,
        precision=precision,
    )
    own = dict(options.setting(text) for text in settings)
    data = _with_options(data, validation=validation, resize=resize)
    main = is_main_process()  # one of several under torchrun: the first speaks and writes
    if main:
        _check_outputs(output, init, data, resume=resume, restart=restart, force=force)
    checkpoint = output.with_suffix(".checkpoint")
    with locked(output) if main else nullcontext(), progress() if main else nullcontext():
        if restart and main:
            checkpoint.unlink(missing_ok=True)
        if init:
            start = _resizing(load(init, trust_code=trust_code), resize)
            data = resized_as(data, start.arch.input)
        split = load_data(data, protocol=protocol, trust_code=trust_code)
        if not init:
            arch = default_arch(encoder, bits, input_of(split, resize=parse_spec(data, foreign=True).resize))
            start = untrained(arch, seed=seed, trust_code=trust_code)
        step = training_step(split, system, schedule, seed=seed, settings=own, device=device)
        resuming = resume and not checkpoint.exists()
        model = _finished(output, start, step, main=main, trust_code=trust_code) if resuming else None
        if not (finished_before := model is not None):
            with _named_when_interrupted(checkpoint, context):
                told: dict[str, Any] = {"seed": seed, "settings": own, "device": device, "trust_code": trust_code}
                model = train(start, split, system, schedule, checkpoint=checkpoint, **told)
        if main and not finished_before:
            save(model, output)
            checkpoint.unlink(missing_ok=True)
        if main:
            chosen_by = evaluate(model, split.validation, device=device) if split.held_out is not None else None
            _report(model, output, chosen_by, finished_before=finished_before, json=json)


def _with_options(data: str, **options_: str | None) -> str:
    """Return the data spec with the options that were given."""
    from ..core.data.spec import with_option

    for option, value in options_.items():
        data = data if value is None else with_option(data, option, value)
    return data


def _report(model: HashModel, output: Path, chosen_by: Quality | None, *, finished_before: bool, json: bool) -> None:
    size = output.stat().st_size
    if json:
        log = model.history[-1].to_json()
        found = {} if chosen_by is None else {"validation": chosen_by.to_json()}
        print_json({"path": str(output), "bytes": size, "finished_before": finished_before, "step": log, **found})
        return
    if finished_before:
        console().print("nothing was left to do: this training had been finished", markup=False)
    console().print(str(model), markup=False)
    if chosen_by is not None:
        console().print(f"mAP on {chosen_by.queries:,} held-out training images: {chosen_by.map:.4f}", markup=False)
    console().print(f"{output}: {size:,} bytes", markup=False)


def _check_outputs(output: Path, init: Path | None, data: str, *, resume: bool, restart: bool, force: bool) -> None:
    """Refuse outputs that would destroy something, before any work."""
    from ..core.errors import InputError
    from ..core.outputs import CHECKPOINT, MODEL, check_output

    if resume and restart:
        raise InputError("--resume goes on with an interrupted training and --restart discards it: give one of them")
    inputs = [("model of --init", init), *options.data_inputs(data)]
    check_output(output, MODEL, inputs, force=force)
    checkpoint = output.with_suffix(".checkpoint")
    if checkpoint == output:
        raise InputError(f"-o {output}: the checkpoint of the training has this name; give the model another suffix")
    check_output(checkpoint, CHECKPOINT, inputs, option=f"-o {output}, whose checkpoint")
    if checkpoint.exists() and not resume and not restart:
        raise InputError(
            f"{checkpoint} keeps the state of an interrupted training: go on from there with --resume, or discard it and "
            "start over with --restart"
        )


def _finished(output: Path, start: HashModel, step: Step, *, main: bool, trust_code: bool) -> HashModel | None:
    """Return the model in ``output`` if it is the result of this training; warn where it is not."""
    from ..core.errors import ModelFileError
    from ..modelfile.file import load

    try:
        model = load(output, trust_code=trust_code)
        same = model.arch == start.arch and model.history[:-1] == start.history and bool(model.history)
        if same and replace(model.history[-1], after={}).to_json() == step.to_json():
            return model
    except ModelFileError:
        pass
    if main:
        warn(f"nothing to resume: there is no {output.with_suffix('.checkpoint')}; starting with the first epoch")
    return None


@contextmanager
def _named_when_interrupted(checkpoint: Path, context: typer.Context) -> Iterator[None]:
    """Say after an interruption what is kept, and how to go on."""
    from ..core.errors import InterruptedRunError

    try:
        yield
    except KeyboardInterrupt:
        kept = f"{checkpoint} keeps the finished epochs; go on with: {options.again(context, '--resume')}"
        what = kept if checkpoint.exists() else "no epoch was finished"
        raise InterruptedRunError(f"interrupted; {what}") from None


def _resizing(start: HashModel, resize: str | None) -> HashModel:
    """Return the model with another way to bring images to size, where one was asked for."""
    from ..core.inputs import ImageInput

    if resize is None or not isinstance(start.arch.input, ImageInput):
        return start
    return replace(start, arch=replace(start.arch, input=replace(start.arch.input, resize=resize)))
