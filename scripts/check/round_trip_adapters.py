#!/usr/bin/env python3
"""peft writes adapters, the library loads, saves and merges them, peft and transformers load those again: equal logits throughout.

round_trip_adapters.py <the program resave_adapters>      exit status 1 on a difference, 77 without peft
"""

import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

try:
    import torch
    import transformers
    from peft import LoraConfig, PeftModel, get_peft_model
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM, GPTJConfig, LlamaConfig
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

FAMILIES = {
    "llama": LlamaConfig(
        vocab_size=24, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, attention_bias=True
    ),
    "gptj": GPTJConfig(vocab_size=24, n_embd=16, n_layer=3, n_head=2, rotary_dim=4, n_inner=24, n_positions=32),
}
ADAPTERS = {
    "lora": dict(r=4, lora_alpha=16, lora_dropout=0.1),
    "rslora": dict(r=4, use_rslora=True, target_modules="all-linear"),
    "dora": dict(r=3, use_dora=True, layers_to_transform=[0, 2]),
    "modules_to_save": dict(r=2, modules_to_save=["lm_head", "wte", "embed_tokens"]),
    "lora_bias": dict(r=2, lora_bias=True, bias="lora_only", target_modules=r".*\.(fc_in|q_proj)"),
    "biases": dict(r=2, bias="all", rank_pattern={"v_proj": 5}, alpha_pattern={".*q_proj": 3}),
}


def close(actual, expected, what: str) -> None:
    difference = (actual - expected).abs().max() / expected.abs().max()
    assert difference < 1e-5, f"{what}: logits differ by {difference} of the largest"


def prepare(folder: Path, config, options: dict) -> torch.Tensor:
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(config)
    base.save_pretrained(folder / "base")
    model = get_peft_model(base, LoraConfig(**options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape))
    model.save_pretrained(folder / "adapter")
    input_ids = torch.randint(24, (2, 9))
    save_file({"input_ids": input_ids}, folder / "input_ids.safetensors")
    with torch.no_grad():
        return model(input_ids=input_ids).logits


def check(folder: Path, expected: torch.Tensor) -> None:
    input_ids = load_file(folder / "input_ids.safetensors")["input_ids"]
    close(load_file(folder / "ours.safetensors")["logits"], expected, f"{folder.name}: peft's adapter here")
    original, resaved = (load_file(folder / part / "adapter_model.safetensors") for part in ("adapter", "resaved"))
    assert original.keys() == resaved.keys(), f"{folder.name}: {original.keys() ^ resaved.keys()}"
    assert all(torch.equal(original[key], resaved[key]) for key in original), f"{folder.name}: saved tensors differ"
    with torch.no_grad():
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder / "base"), folder / "resaved")
        close(model(input_ids=input_ids).logits, expected, f"{folder.name}: our adapter in peft")
        if (folder / "merged").exists():
            merged = AutoModelForCausalLM.from_pretrained(folder / "merged")
            close(merged(input_ids=input_ids).logits, expected, f"{folder.name}: our merged model")


def main(program: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        expected = {}
        for family, config in FAMILIES.items():
            for name, options in ADAPTERS.items():
                folder = Path(temporary) / f"{family}_{name}"
                expected[folder] = prepare(folder, config, options)
        subprocess.run([program, *map(str, expected)], check=True)
        for folder, logits in expected.items():
            check(folder, logits)
    print(f"{len(expected)} adapters go both ways")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    main(sys.argv[1])
