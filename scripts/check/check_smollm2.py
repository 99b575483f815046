#!/usr/bin/env python3
"""Compares the program with the installed transformers on a real checkpoint, SmolLM2-135M-Instruct.

In float32, on each prompt: the token ids, the logits of `forward` to 1e-5 of the largest, and 32 greedy tokens of `generate`. Ends with
status 77, which ctest counts as skipped, where scripts/data/prepare_smollm2.py has not made the folder.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

# As in make_goldens.py.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

import torch
import transformers
from safetensors.torch import load_file, save_file

from differential.compare import Mismatch, compare, compare_names, run

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-5  # of the largest logit
NEW_TOKENS = 32
PROMPTS = [
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n",
    "Ein Satz mit Umlauten: äöüß, 3,14159 und 東京.",
]


def check_ids(program: str, folder: Path, prompt: str, expected: list) -> None:
    found = json.loads(run(program, "tokenize", "--model", folder, "--text", prompt))["ids"]
    if found != expected:
        raise Mismatch(f"tokenize gave {found}, expected {expected}")


def check_logits(program: str, folder: Path, ids: torch.Tensor, model, scratch: Path) -> None:
    inputs, output = scratch / "in.safetensors", scratch / "out.safetensors"
    save_file({"input_ids": ids}, inputs)
    run(program, "forward", "--model", folder, "--dtype", "float32", "--inputs", inputs, "--output", output)
    expected, found = {"logits": model(input_ids=ids).logits}, load_file(output)
    compare_names(expected, found)
    compare("logits", expected["logits"], found["logits"], expected["logits"].abs().max().item(), TOLERANCE)


def check_greedy(program: str, folder: Path, ids: torch.Tensor, model, scratch: Path) -> None:
    inputs, output = scratch / "in.safetensors", scratch / "out.safetensors"
    save_file({"input_ids": ids}, inputs)
    options = ("--dtype", "float32", "--max-new-tokens", NEW_TOKENS)
    run(program, "generate", "--model", folder, "--input-ids", inputs, "--output", output, *options)
    mask = torch.ones_like(ids)
    expected = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=NEW_TOKENS)
    found = load_file(output)["sequences"]
    if not torch.equal(found, expected):
        raise Mismatch(f"generate gave {found.tolist()}, expected {expected.tolist()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "build/release/bin/transformers-cpp"))
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "SmolLM2-135M-Instruct")
    arguments = parser.parse_args()
    if not arguments.model.exists():
        print(f"{arguments.model.name} is not there; scripts/data/prepare_smollm2.py makes it")
        sys.exit(77)

    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    with torch.no_grad(), tempfile.TemporaryDirectory() as scratch:
        for prompt in PROMPTS:
            ids = tokenizer(prompt)["input_ids"]
            try:
                check_ids(arguments.program, arguments.model, prompt, ids)
                check_logits(arguments.program, arguments.model, torch.tensor([ids]), model, Path(scratch))
                check_greedy(arguments.program, arguments.model, torch.tensor([ids]), model, Path(scratch))
            except Mismatch as mismatch:
                sys.exit(f"{prompt!r}: {mismatch}")
    print(f"{len(PROMPTS)} prompts: ids, logits and {NEW_TOKENS} greedy tokens as transformers gives them")


if __name__ == "__main__":
    main()
