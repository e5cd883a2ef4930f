"""The checkpoints of other people that lie beside the real data sets, imported."""

import pytest
import torch
from hashpress.hashnets.build import default_arch
from hashpress.hashnets.importers.recognise import import_checkpoint


@pytest.mark.parametrize(
    ("file", "encoder"),
    [
        ("resnet20-12fca82f.th", "resnet20"),
        ("resnet32-d509ac18.th", "resnet32"),
        ("resnet56-4bfd9763.th", "resnet56"),
    ],
)
def test_real_checkpoints(data_dir, file, encoder):
    path = data_dir.parent / "checkpoints" / file
    if not path.exists():
        pytest.skip(f"no {path}")
    model = import_checkpoint(path, bits=32)
    assert model.arch == default_arch(encoder, 32, widths=[16, 32, 64])
    assert model.history[0].settings["sha256"].startswith(file.split("-")[1].split(".")[0])
    original = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    assert torch.equal(model.net.encoder.layer3[2].bn2.running_var, original["module.layer3.2.bn2.running_var"])
