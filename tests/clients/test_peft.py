"""LoRA by peft on a published encoder: the page's block, adapters saved and loaded again, merged."""

import pytest
import torch
from peft import AutoPeftModel, LoraConfig, PeftModel, get_peft_model
from transformers import AutoModel, AutoModelForImageClassification

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["vit", "resnet", "timm", "small_resnet"])
def test_lora_on_a_classifier(kind, export, lines, tmp_path):
    made, space = export(kind), {}
    block = lines("LoRA", "python", made.folder)
    if kind != "vit":  # as the sentences below the block say
        block = block.replace('["q_proj", "v_proj"]', "convolutions")
    if kind == "timm":
        block = block.replace('["classifier"]', '["fc"]')
    exec(block, space)
    adapted = space["adapted"]
    start = {name: value.clone() for name, value in adapted.named_parameters()}
    trained = [value for value in adapted.parameters() if value.requires_grad]
    optimizer, losses = torch.optim.Adam(trained, lr=1e-2), []
    adapted.train()
    for _ in range(8):
        loss = adapted(pixel_values=made.pixels, labels=torch.tensor([0, 1, 0, 1])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    moved = {name for name, value in adapted.named_parameters() if not torch.equal(value, start[name])}
    assert moved and all("lora_" in name or "modules_to_save" in name for name in moved)
    assert any("lora_" in name for name in moved)
    # Batch statistics are buffers of the base model, which adapters do not hold.
    for name, buffer in adapted.named_buffers():
        if name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            buffer.copy_(torch.ones_like(buffer))
    adapted.save_pretrained(tmp_path / "adapter")
    base = AutoModelForImageClassification.from_pretrained(made.folder, num_labels=2, trust_remote_code=True)
    again = PeftModel.from_pretrained(base, tmp_path / "adapter")
    for name, buffer in again.named_buffers():
        if name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            buffer.copy_(torch.ones_like(buffer))
    with torch.no_grad():
        expected = adapted.eval()(pixel_values=made.pixels).logits
        torch.testing.assert_close(again.eval()(pixel_values=made.pixels).logits, expected)
        merged = again.merge_and_unload()
        torch.testing.assert_close(merged.eval()(pixel_values=made.pixels).logits, expected, rtol=1e-3, atol=1e-3)


def test_lora_on_both_towers(export, tmp_path):
    made = export("clip")
    adapted = get_peft_model(
        AutoModel.from_pretrained(made.folder), LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    )
    texts = torch.tensor([[1, 5, 6, 2]] * 4)
    optimizer = torch.optim.Adam([value for value in adapted.parameters() if value.requires_grad], lr=1e-2)
    for _ in range(3):
        loss = adapted(pixel_values=made.pixels, input_ids=texts, return_loss=True).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    adapted.save_pretrained(tmp_path / "adapter")
    again = AutoPeftModel.from_pretrained(tmp_path / "adapter")  # finds the export by the adapter's configuration
    with torch.no_grad():
        found, expected = (
            model.eval()(pixel_values=made.pixels, input_ids=texts).logits_per_image for model in (again, adapted)
        )
    torch.testing.assert_close(found, expected)
