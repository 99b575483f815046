#!/usr/bin/env python3
"""Runs random tiny models through the program and through the installed transformers, and compares everything.

A trial draws a configuration, inputs, a task and a way to save; `forward` must give transformers' logits, loss, hidden states,
attentions, caches and gradients, `generate` its ids and scores, `convert` a folder that Python loads with the same result. Float32
results may differ by 1e-5 of the largest value of their kind. Every trial hangs on its seed: a failure is repeated with
`--seed S --count 1`.

With --train a trial is a short training: samples and settings are drawn too, `finetune` must give the losses, rates, norms and
final weights or adapters of PyTorch's AdamW, transformers' schedules and peft.
"""

import argparse
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path

# As in make_goldens.py.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
# Tensors this small gain nothing from threads, which wait for each other on a busy machine; the program inherits it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tiny vocabularies do not hold the default token ids, of which transformers warns.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import safetensors.torch
import torch
import transformers

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))  # for the package goldens

from differential import folder as folders
from differential.compare import Mismatch, compare, compare_names, run
from differential.draw import CLASSES, Trial, build, draw, unattended
from differential.draw_training import draw_training
from differential.train import check_training
from goldens.case import flatten_outputs, given_cache

# Of the largest value of a kind. The half types: rounding of single operations, which the order of summation moves.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 4e-2, torch.float16: 5e-3}


def load_reference(trial: Trial, reference: Path) -> torch.nn.Module:
    """Through a file, as users do: the rotary data then stays float32 whatever the dtype."""
    model_class = CLASSES[trial.family][trial.task]
    return model_class.from_pretrained(
        reference, dtype=trial.dtype, attn_implementation=trial.attn_implementation
    ).eval()


def wants_gradients(trial: Trial) -> bool:
    return trial.dtype == torch.float32 and ("labels" in trial.tensors or "start_positions" in trial.tensors)


def expected_forward(trial: Trial, model) -> dict:
    inputs = dict(trial.tensors)
    eager = trial.attn_implementation == "eager"
    if "past_key_values.0.key" in inputs:
        inputs["past_key_values"] = given_cache(model, inputs)
    if trial.task != "question-answering":
        inputs["use_cache"] = trial.use_cache
    elif trial.family != "gptj":  # GPT-J's has no such argument
        inputs["use_cache"] = False
    outputs = model(**inputs, output_hidden_states=True, output_attentions=eager)
    cache = getattr(outputs, "past_key_values", None) if trial.use_cache else None
    tensors = flatten_outputs(outputs, cache, ("hidden_states", "past_key_values") + (("attentions",) if eager else ()))
    if wants_gradients(trial):
        outputs.loss.backward()
        # A parameter that took no part has no gradient in Python; the program writes one of zeros for every parameter.
        tensors |= {
            f"grad.{name}": torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for name, parameter in model.named_parameters()
        }
    return {name: tensor.detach() for name, tensor in tensors.items()}


def found_forward(trial: Trial, program: str, model_folder: Path, scratch: Path) -> dict:
    inputs, output = scratch / "inputs.safetensors", scratch / "output.safetensors"
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in trial.tensors.items()}, inputs)
    options = ["--task", trial.task, "--attn", trial.attn_implementation, "--output-hidden-states"]
    options += ["--output-attentions"] if trial.attn_implementation == "eager" else []
    options += ["--use-cache"] if trial.use_cache and trial.task != "question-answering" else []
    options += ["--grads"] if wants_gradients(trial) else []
    run(program, "forward", "--model", model_folder, "--inputs", inputs, "--output", output, *options)
    return safetensors.torch.load_file(output)


def kind(name: str) -> str:
    """Tensors of one kind share a scale: a part whose true value is 0 has only rounding in it."""
    return name.split(".")[0]


def compared_rows(trial: Trial, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Sets to 0 what belongs to query rows that may look at nothing."""
    batch, length = next(t.shape[:2] for n, t in trial.tensors.items() if n in ("input_ids", "inputs_embeds"))
    empty = unattended(trial.tensors.get("attention_mask"), batch, length)
    if (
        not empty.any()
        or kind(name) in ("loss", "grad")
        or (name == "logits" and trial.task == "sequence-classification")
    ):
        return tensor
    sequence_dim = 2 if kind(name) in ("attentions", "past_key_values") else 1
    if kind(name) == "past_key_values":
        past = tensor.shape[2] - length
        empty = torch.cat([torch.zeros(batch, past, dtype=torch.bool), empty], dim=1)
    shape = [batch] + [1] * (tensor.dim() - 1)
    shape[sequence_dim] = empty.shape[1]
    return tensor.masked_fill(empty.view(shape), 0.0)


def compare_all(trial: Trial, expected: dict, found: dict) -> None:
    compare_names(expected, found)
    scales = {}
    for name, tensor in expected.items():
        if tensor.numel():
            scales[kind(name)] = max(scales.get(kind(name), 1e-6), tensor.float().abs().max().item())
    for name, tensor in expected.items():
        if not found[name].isfinite().all():
            raise Mismatch(f"{name}: holds a value that is not finite")
        pair = (compared_rows(trial, name, tensor), compared_rows(trial, name, found[name]))
        compare(name, *pair, scales.get(kind(name), 1.0), TOLERANCE[trial.dtype])


def check_generate(trial: Trial, model, program: str, model_folder: Path, scratch: Path) -> None:
    """Greedy ids and scores of a left-padded batch. Where two scores nearly tie either id is right, and the row ends there."""
    generator = torch.Generator().manual_seed(trial.seed + 1)
    input_ids = torch.randint(3, trial.config["vocab_size"], (2, 6), generator=generator)
    mask = torch.ones_like(input_ids)
    mask[1, : trial.seed % 4] = 0
    tensors = {"input_ids": input_ids, "attention_mask": mask}
    inputs, output = scratch / "generate-inputs.safetensors", scratch / "generate-output.safetensors"
    safetensors.torch.save_file(tensors, inputs)
    options = {"pad_token_id": 0} | trial.generate
    flags = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", value)]
    attn = ("--attn", trial.attn_implementation)
    run(
        program,
        "generate",
        "--model",
        model_folder,
        "--input-ids",
        inputs,
        "--output",
        output,
        "--output-scores",
        *attn,
        *flags,
    )
    with torch.no_grad():
        expected = model.generate(
            **tensors, **options, do_sample=False, return_dict_in_generate=True, output_scores=True
        )
    compare_generation(expected, safetensors.torch.load_file(output), input_ids.shape[1])


def compare_generation(expected, found: dict, prompt: int) -> None:
    finite = torch.cat([scores[scores.isfinite()] for scores in expected.scores])
    scale = finite.abs().max().item()
    alive = torch.ones(expected.sequences.shape[0], dtype=torch.bool)
    for step, scores in enumerate(expected.scores):
        name = f"scores.{step}"
        if name not in found:
            raise Mismatch(f"generate wrote no {name}, expected {len(expected.scores)} steps")
        bounded = [torch.nan_to_num(row[alive], neginf=-10 * scale, posinf=10 * scale) for row in (scores, found[name])]
        compare(f"generate {name}", *bounded, scale, 1e-4)
        best = scores.topk(2).values
        alive &= (best[:, 0] - best[:, 1]) > 1e-3 * scale
        if not alive.any():
            return
        column = prompt + step
        ids, wanted = found["sequences"][:, column], expected.sequences[:, column]
        if not torch.equal(ids[alive], wanted[alive]):
            raise Mismatch(f"generate: ids of step {step} are {ids.tolist()}, expected {wanted.tolist()}")
    if alive.all() and expected.sequences.shape != found["sequences"].shape:
        raise Mismatch(
            f"generate: sequences {tuple(found['sequences'].shape)}, expected {tuple(expected.sequences.shape)}"
        )


def check_convert(trial: Trial, program: str, model_folder: Path, reference: Path, scratch: Path) -> None:
    """What the program saves, Python loads: every tensor bit for bit."""
    converted = scratch / "converted"
    run(program, "convert", "--model", model_folder, "--output", converted, "--max-shard-size", "8KB")
    expected, found = load_reference(trial, reference).state_dict(), load_reference(trial, converted).state_dict()
    for name, tensor in expected.items():
        if not torch.equal(tensor, found[name]):
            raise Mismatch(f"convert: {name} differs after Python loaded the folder")


def check(trial: Trial, program: str, scratch: Path) -> None:
    reference, model_folder = scratch / "reference", scratch / "model"
    folders.write(build(trial), reference, model_folder, trial.save_format)
    expected = expected_forward(trial, load_reference(trial, reference))
    compare_all(trial, expected, found_forward(trial, program, model_folder, scratch))
    if trial.generate:
        # Loaded anew: a dynamic rope remembers the lengths it has seen.
        check_generate(trial, load_reference(trial, reference), program, model_folder, scratch)
    if trial.seed % 5 == 0:
        check_convert(trial, program, model_folder, reference, scratch)


def first_failure(family: str, seeds: range, program: str, train: bool) -> bool:
    for seed in seeds:
        trial = (draw_training if train else draw)(seed, family)
        with tempfile.TemporaryDirectory() as scratch:
            try:
                (check_training if train else check)(trial, program, Path(scratch))
            except Mismatch as mismatch:
                print(f"{family} seed {seed}: {mismatch}")
                print(json.dumps(trial.describe(), indent=2))
                print(f"{family}: failed at configuration {seed - seeds.start + 1} of {len(seeds)}")
                return True
    print(f"{family}: {len(seeds)} {'trainings' if train else 'configurations'}, no difference")
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="configurations of each family (default 200)")
    parser.add_argument("--family", choices=CLASSES, action="append", help="repeatable; default: all")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first configuration (default 0)")
    parser.add_argument("--train", action="store_true", help="short trainings instead of calls of models")
    parser.add_argument(
        "--program", default=ROOT / "build/release/bin/transformers-cpp", help="default: the release build's"
    )
    arguments = parser.parse_args()
    if not Path(arguments.program).is_file():
        parser.error(f"there is no program {arguments.program}")

    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)  # peft calls transformers by an old name
    seeds = range(arguments.seed, arguments.seed + arguments.count)
    families, program = arguments.family or CLASSES, str(arguments.program)
    failed = [first_failure(family, seeds, program, arguments.train) for family in families]
    return 1 if any(failed) else 0


if __name__ == "__main__":
    sys.exit(main())
