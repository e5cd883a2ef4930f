"""hashpress devices: list the devices that can be reached, and what is wrong with those that cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from . import options
from .console import console, print_json, table

NAME = "devices"
EXAMPLES = options.examples(
    "devices", "devices ssh:pi@raspberrypi.local adb", "devices ssh:pi@raspberrypi.local --clean"
)


def verb(
    devices: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DEVICE]...",
            help="local, ssh:[USER@]HOST[:PORT], adb[:SERIAL] or qemu[:CPU]; without any, all that can be seen from here.",
        ),
    ] = None,
    clean: Annotated[
        bool,
        typer.Option("--clean", help="Remove the files that earlier jobs left on the devices named, to be used again."),
    ] = False,
    json: options.Json = False,
) -> None:
    """List devices with model, cores, instruction sets, governor, temperature and free memory, or how to mend the connection."""
    from ..core.errors import DeviceError, InputError
    from ..targets.devices.listing import examine, visible
    from ..targets.devices.remote import RemoteDevice
    from ..targets.devices.table import parse_device

    if clean:
        if not devices:
            raise InputError("--clean needs the names of devices, such as adb or ssh:pi@raspberrypi.local")
        for device in [parse_device(text) for text in devices]:
            if isinstance(device, RemoteDevice):
                device.clean()
            console(json).print(f"{device.name}: clean", markup=False)
        return
    rows = examine([parse_device(text) for text in devices]) if devices else visible()
    if json:
        print_json(rows)
    else:
        for row in rows:
            console().print(f"[bold]{row['device']}[/bold]", table("", ("", ""), _lines(row)))
    failed = [row for row in rows if row["problem"]]
    if devices and failed:
        raise DeviceError("; ".join(f"{row['device']}: {row['problem']}" for row in failed))


def _needed() -> set[str]:
    """Return the instruction sets that a target of the table asks for; processors have a hundred others."""
    from ..targets.table import TARGETS, Target

    return {name for target in TARGETS.values() if isinstance(target, Target) for name in target.needs}


def _lines(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is known of a device, in words."""
    if row["problem"]:
        return [("  problem", row["problem"])]
    governor = row["governor"] or "unknown"
    clock = f"{row['mhz'] or '?'} of {row['max_mhz']} MHz, governor {governor}" if row["max_mhz"] else governor
    memory = f"{row['free_mb']} of {row['memory_mb']} MB free" if row["memory_mb"] else "unknown"
    heat = f"{row['celsius']} °C" if row["celsius"] is not None else "unknown"
    lines = [
        ("  model", row["model"] or row["cpu"] or "unknown"),
        ("  cores", f"{row['cores'] or '?'} ({row['cpu'] or 'unknown'}, {row['arch'] or 'any'})"),
        ("  system", row["system"] or "unknown"),
        ("  features", " ".join(name for name in row["features"] if name in _needed()) or "unknown"),
        ("  clock", clock),
        ("  temperature", heat),
        ("  memory", memory),
        ("  targets", " ".join(row["targets"]) or "none of the table: hashpress ls targets"),
    ]
    return [*lines, *(("  note", note) for note in row["notes"])]
