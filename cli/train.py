"""hashpress train: train a hashing network from scratch or from a model file."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .console import console, print_json, progress, set_threads

if TYPE_CHECKING:
    from ..core.model import HashModel

NAME = "train"
EXAMPLES = options.examples(
    "train --system dpsh --encoder smallconv --bits 24 --data digits -o model.safetensors",
    "train --system dpsh --encoder resnet20 --bits 48 --data cifar10:cifar.tar.xz --augment flip-crop -o m.safetensors",
    "train --encoder textcnn --optimizer adam --data text:lines.jsonl.gz --device cuda -o m.safetensors",
    "train --init imported.safetensors --system dlbhc --data imagefolder:photos --epochs 5 --lr 1e-3 -o m.safetensors",
)


def verb(
    *,
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
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    trust_code: options.TrustCode = False,
    threads: options.Threads = 1,
    json: options.Json = False,
) -> None:
    """Train a hashing network with one of the published systems and write a model file."""
    set_threads(threads)
    from ..core.data import load_data
    from ..core.data.spec import parse_spec, with_option
    from ..core.inputs import input_of, resized_as
    from ..hashnets.build import default_arch, untrained
    from ..hashnets.retrieval.evaluate import evaluate
    from ..hashnets.training.distributed import is_main_process
    from ..hashnets.training.schedule import Schedule
    from ..hashnets.training.train import train
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
    data = data if validation is None else with_option(data, "validation", validation)
    checkpoint = output.with_suffix(".checkpoint")
    if not resume and is_main_process():
        checkpoint.unlink(missing_ok=True)
    with progress() if is_main_process() else nullcontext():
        data = data if resize is None else with_option(data, "resize", resize)
        if init:
            start = load(init, trust_code=trust_code)
            start = _resizing(start, resize)
            data = resized_as(data, start.arch.input)
        split = load_data(data, protocol=protocol, trust_code=trust_code)
        if not init:
            arch = default_arch(encoder, bits, input_of(split, resize=parse_spec(data, foreign=True).resize))
            start = untrained(arch, seed=seed, trust_code=trust_code)
        model = train(
            start, split, system, schedule, seed=seed, checkpoint=checkpoint, settings=own, device=device,
            trust_code=trust_code,
        )  # fmt: skip
        if not is_main_process():
            return  # one of several under torchrun; the first writes
        save(model, output)
        chosen_by = None if split.held_out is None else evaluate(model, split.validation, device=device)
    checkpoint.unlink(missing_ok=True)
    log = model.history[-1].to_json()
    if json:
        found = {} if chosen_by is None else {"validation": chosen_by.to_json()}
        print_json({"path": str(output), "bytes": output.stat().st_size, "step": log, **found})
    else:
        console().print(str(model), markup=False)
        if chosen_by is not None:
            console().print(f"mAP on {chosen_by.queries:,} held-out training images: {chosen_by.map:.4f}", markup=False)
        console().print(f"{output}: {output.stat().st_size:,} bytes")


def _resizing(start: HashModel, resize: str | None) -> HashModel:
    """Return the model with another way to bring images to size, where one was asked for."""
    from ..core.inputs import ImageInput

    if resize is None or not isinstance(start.arch.input, ImageInput):
        return start
    return replace(start, arch=replace(start.arch, input=replace(start.arch.input, resize=resize)))
