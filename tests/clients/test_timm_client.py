"""Fine-tuning of a published encoder of timm's architectures by timm, and by its train.py where a copy of it is given."""

import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from client_scripts import run_script
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.optim import create_optimizer_v2

pytestmark = pytest.mark.slow

KINDS = ["timm", "timm_vit"]


@pytest.mark.parametrize("kind", KINDS)
def test_timm_fine_tunes_an_export(kind, export, images, tmp_path):
    made = export(kind)
    model = timm.create_model(f"local-dir:{made.folder}", pretrained=True, num_classes=2)
    with torch.no_grad():
        features = model.eval().forward_head(model.forward_features(made.pixels), pre_logits=True)
    torch.testing.assert_close(features, made.features)
    config = resolve_data_config({}, model=model)
    assert tuple(config["input_size"]) == (3, 32, 32)
    data = {"input_size": config["input_size"], "mean": config["mean"], "std": config["std"], "batch_size": 8}
    loaders = [
        create_loader(
            create_dataset("", root=images, split=split),
            **data,
            is_training=split == "train",
            num_workers=1,
            use_prefetcher=False,
            no_aug=True,
        )
        for split in ("train", "val")
    ]
    optimizer, losses = create_optimizer_v2(model.train(), opt="adamw", lr=5e-3), []
    for _ in range(6):
        for pixels, labels in loaders[0]:
            loss = torch.nn.functional.cross_entropy(model(pixels), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert np.isfinite(losses).all() and np.mean(losses[-3:]) < np.mean(losses[:3])
    with torch.no_grad():
        found = torch.cat([model.eval()(pixels) for pixels, _ in loaders[1]])
    assert found.shape == (8, 2)
    torch.save(model.state_dict(), tmp_path / "tuned.pt")
    again = timm.create_model(f"local-dir:{made.folder}", num_classes=2, checkpoint_path=str(tmp_path / "tuned.pt"))
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(made.pixels), model(made.pixels))


@pytest.mark.parametrize("kind", KINDS)
def test_the_script_of_timm_fine_tunes_an_export(kind, export, lines, tmp_path):
    scripts = os.environ.get("HFCONTRAST_TIMM_SCRIPTS")
    if not scripts:
        pytest.skip("HFCONTRAST_TIMM_SCRIPTS is not set: a copy of pytorch-image-models")
    short = ["--epochs", "1", "--warmup-epochs", "0", "--batch-size", "8", "--device", "cpu", "--workers", "1"]
    block = lines("Fine-tune with timm", "bash", export(kind).folder)
    run_script(block, Path(scripts), *short)
    (summary,) = tmp_path.glob("output/train/*/summary.csv")
    header, row = (line.split(",") for line in summary.read_text().splitlines())
    assert np.isfinite(float(row[header.index("eval_loss")]))
