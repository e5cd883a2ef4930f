"""A report with everything in it, for the tests of reports, budgets and pages."""

from hashpress.profiling.report import Figure, Layer, Part, Report


def quality(map_=0.9, rate=0.01, bits=4):
    side = {
        "data": "digits",
        "protocol": "B",
        "digest": "0",
        "queries": 10,
        "database": 20,
        "bits": bits,
        "asymmetric": False,
        "map": map_,
        "map_lowest": map_,
        "map_highest": map_,
        "precision_radius_2": 0.5,
        "empty_radius_2": 0.0,
        "unanswerable": 0,
        "at": [],
        "curve_precision": [1.0, 0.9, 0.8, 0.5, 0.1],
        "curve_recall": [0.1, 0.3, 0.5, 0.9, 1.0],
    }
    flips = {
        "items": 10,
        "bits": bits,
        "flipped": 4,
        "rate": rate,
        "items_changed": 3,
        "largest_margin": 0.2,
        "per_bit": [0.0, 0.01, 0.03, 0.0][:bits],
        "margins": [
            {"low": 0.0, "high": 1e-6, "outputs": 0, "flipped": 0},
            {"low": 0.1, "high": 0.2, "outputs": 30, "flipped": 4},
            {"low": 0.2, "high": None, "outputs": 10, "flipped": 0},
        ],
    }
    return {
        "symmetric": side,
        "asymmetric": side | {"asymmetric": True},
        "original": side | {"map": 0.95},
        "flips": flips,
    }


def report(name="small.bundle", file=1200, p50=1.5, map_=0.9, **others):
    figures = {
        "latency.p50": Figure(p50, "ms", "measured"),
        "latency.p99": Figure(2 * p50, "ms", "measured"),
        "storage.file": Figure(file, "B", "measured"),
        "storage.bundle": Figure(file + 5000, "B", "measured"),
        "storage.fp32": Figure(40_000, "B", "static"),
        "memory.rss": Figure(80_000_000, "B", "measured"),
        "memory.idle": Figure(60_000_000, "B", "measured"),
        "memory.weights": Figure(40_000, "B", "static"),
        "quality.map": Figure(map_, "share", "measured"),
        "quality.bit_flips": Figure(0.01, "share", "measured"),
    }
    layers = [Layer(kernel, Figure(share * p50, "ms", "measured")) for kernel, share in LAYERS.items()]
    parts = (
        Part("header", "metadata", 200),
        Part("encoder.conv1.weight", "values", file - 300),
        Part("head.bias", "biases", 100),
        Part("lib.so", "library", 5000),
    )
    history = (
        {"name": "train", "settings": {"system": "dlbhc"}, "seed": 0},
        {"name": "prune", "settings": {"density": 0.2}, "before": {"bytes": 40_000, "map": 0.95}},
        {"name": "share", "before": {"bytes": 9000, "map": 0.93}},
    )
    values = {
        "target": "host",
        "device": "local",
        "figures": figures,
        "layers": tuple(layers),
        "parts": parts,
        "machine": {"cpu": "a <processor> & more", "cores": 2},
        "noise": ("load average 9",),
        "versions": {"python": "3.11"},
        "quality": quality(map_),
        "history": history,
        "decoded": {"encoder.conv1": "pruned+shared", "encoder.fc1": "int8", "head": "pruned+shared"},
    }
    return Report(name, **(values | others))


LAYERS = {"conv2d": 0.6, "max_pool": 0.1, "dense": 0.3}
