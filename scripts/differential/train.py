"""`finetune` against the loop of HF's Trainer in plain PyTorch: every step's log, and what is left in the folder."""

import json
from pathlib import Path

import safetensors.torch
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from transformers import Trainer, get_scheduler

from .compare import Mismatch, compare, compare_names, run
from .draw import CLASSES
from .draw_training import Training, build_start
from goldens.case import weights
from goldens.training import smoothed_loss

# Of each logged number, and of a tensor's largest value: those of the golden runs.
TOLERANCE = 1e-5


def load_start(training: Training, folder: Path) -> torch.nn.Module:
    """In training mode; with adapters whose values the seed gives."""
    model = CLASSES[training.family]["causal-lm"].from_pretrained(
        folder, dtype=torch.float32, attn_implementation=training.attn_implementation
    )
    settings = training.settings
    if "lora_r" in settings:
        options = {"target_modules": settings.get("lora_targets"), "lora_alpha": settings.get("lora_alpha", 8)}
        torch.manual_seed(training.seed)
        model = get_peft_model(model, LoraConfig(r=settings["lora_r"], **options))
    return model.train()


def make_optimizer(model, settings: dict) -> torch.optim.AdamW:
    """Trainer's two groups."""
    decayed = set(Trainer.get_decay_parameter_names(None, model))
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for name, parameter in trained if (name in decayed) == decay],
            "weight_decay": settings["weight_decay"] * decay,
        }
        for decay in (True, False)
    ]
    return torch.optim.AdamW(groups, lr=settings["learning_rate"])


def micro_batches(training: Training, step: int) -> list:
    """Samples in file order, from the first again when they run out."""
    settings = training.settings
    size, count = settings["batch_size"], settings["gradient_accumulation_steps"]
    columns = {"attention_mask": torch.ones_like(training.columns["input_ids"])} | training.columns
    total = len(columns["input_ids"])
    firsts = [(step * count + micro) * size for micro in range(count)]
    rows = [[(first + i) % total for i in range(size)] for first in firsts]
    return [{name: column[part] for name, column in columns.items()} for part in rows]


def backward(model, batches: list, smoothing: float) -> float:
    """The mean over the labels of all micro-batches."""
    num_items = sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in batches)
    total = 0.0
    for batch in batches:
        if smoothing:
            inputs = {name: column for name, column in batch.items() if name != "labels"}
            loss = smoothed_loss(model(**inputs).logits, batch["labels"], num_items, smoothing)
        else:
            loss = model(**batch, num_items_in_batch=num_items).loss
        loss.backward()
        total += loss.item()
    return total


def expected_log(training: Training, model) -> list:
    """Checkpointing and chunks of the loss save memory and change nothing, so they have no part in it."""
    settings = training.settings
    optimizer = make_optimizer(model, settings)
    scheduler = get_scheduler(
        settings["lr_schedule"], optimizer, settings["warmup_steps"], settings["max_steps"]
    )
    log = []
    for step in range(settings["max_steps"]):
        loss = backward(model, micro_batches(training, step), settings["label_smoothing"])
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings["max_grad_norm"] or float("inf"))
        log.append({"loss": loss, "learning_rate": scheduler.get_last_lr()[0], "grad_norm": norm.item()})
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    return log


def expected_weights(training: Training, model) -> dict:
    if not isinstance(model, PeftModel):
        return weights(model)
    return weights(model.merge_and_unload()) if training.settings.get("merge") else get_peft_model_state_dict(model)


def options_of(settings: dict) -> list:
    options = []
    for name, value in settings.items():
        options.append("--" + name.replace("_", "-"))
        if value is not True:
            options.append(",".join(value) if isinstance(value, list) else value)
    return options


def found_training(training: Training, program: str, model_folder: Path, scratch: Path) -> tuple[list, dict]:
    """The log and the tensors of the folder."""
    data, log, output = scratch / "samples.safetensors", scratch / "log.jsonl", scratch / "tuned"
    safetensors.torch.save_file(training.columns, data)
    options = ["--attn", training.attn_implementation, "--seed", training.seed, "--no-shuffle", "--quiet"]
    options += options_of(training.settings)
    files = ("--model", model_folder, "--train-ids", data, "--output", output, "--log-file", log)
    run(program, "finetune", *files, *options)
    adapter = "lora_r" in training.settings and not training.settings.get("merge")
    tensors = safetensors.torch.load_file(output / ("adapter_model.safetensors" if adapter else "model.safetensors"))
    return [json.loads(line) for line in log.read_text().splitlines()], tensors


def compare_logs(expected: list, found: list) -> None:
    if [entry["step"] for entry in found] != list(range(1, len(expected) + 1)):
        raise Mismatch(f"the log has the steps {[entry['step'] for entry in found]}, expected 1 to {len(expected)}")
    for step, entry in enumerate(expected):
        for column, value in entry.items():
            pair = (torch.tensor(number, dtype=torch.float64) for number in (value, found[step][column]))
            compare(f"step {step + 1}: {column}", *pair, abs(value), TOLERANCE)


def compare_weights(expected: dict, found: dict) -> None:
    compare_names(expected, found)
    for name, tensor in expected.items():
        compare(name, tensor.detach(), found[name], tensor.abs().max().item(), TOLERANCE)


def check_training(training: Training, program: str, scratch: Path) -> None:
    start = scratch / "start"
    build_start(training).save_pretrained(start)
    model = load_start(training, start)
    log, tensors = found_training(training, program, start, scratch)
    compare_logs(expected_log(training, model), log)
    compare_weights(expected_weights(training, model), tensors)
