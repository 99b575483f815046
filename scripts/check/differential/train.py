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
from goldens.case import move_by_a_rounding, weights
from goldens.training import smoothed_loss

# Of each logged number, and of a tensor's largest value: those of the golden runs.
TOLERANCE = 1e-5
# How far a rounding of the weights may move what PyTorch gives, so that a difference of TOLERANCE is no matter of rounding.
ROUNDING = TOLERANCE / 4
NEIGHBOURS = 3
STARTS = 10


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
    scheduler = get_scheduler(settings["lr_schedule"], optimizer, settings["warmup_steps"], settings["max_steps"])
    log = []
    for step in range(settings["max_steps"]):
        loss = backward(model, micro_batches(training, step), settings["label_smoothing"])
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings["max_grad_norm"] or float("inf"))
        rate = scheduler.get_last_lr()[0]
        log.append({"step": step + 1, "loss": loss, "learning_rate": rate, "grad_norm": norm.item()})
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


def compare_logs(expected: list, found: list, tolerance: float) -> None:
    if len(found) != len(expected):
        raise Mismatch(f"the log has {len(found)} lines, expected {len(expected)}")
    for entry, line in zip(expected, found):
        for column, value in entry.items():
            pair = (torch.tensor(number, dtype=torch.float64) for number in (value, line[column]))
            compare(f"step {entry['step']}: {column}", *pair, abs(value), tolerance)


def compare_trainings(expected: tuple, found: tuple, tolerance: float = TOLERANCE) -> None:
    """Of each the log and the tensors."""
    compare_logs(expected[0], found[0], tolerance)
    compare_names(expected[1], found[1])
    for name, tensor in expected[1].items():
        # An adapter's B begins at 0 and has no size of its own but the way it went; its A gives the scale.
        scale = expected[1][name.replace("lora_B", "lora_A")].abs().max().item()
        compare(name, tensor, found[1][name], scale, tolerance)


def expected_training(training: Training, folder: Path, neighbour: int = 0) -> tuple[list, dict]:
    """From the start itself (0) or from one beside it."""
    model = load_start(training, folder)
    if neighbour:
        move_by_a_rounding(model, neighbour)
    log = expected_log(training, model)
    return log, {name: tensor.detach() for name, tensor in expected_weights(training, model).items()}


def depends_on_rounding(training: Training, folder: Path, expected: tuple) -> bool:
    try:
        for neighbour in range(1, NEIGHBOURS + 1):
            compare_trainings(expected, expected_training(training, folder, neighbour), ROUNDING)
    except Mismatch:
        return True
    return False


def settle_start(training: Training, folder: Path) -> tuple[list, dict]:
    """Writes the model, and is what shall come of it.

    Adam's first step of a weight is the rate times its gradient's sign, however small that is. A weight whose gradient happens to
    be as small as the rounding in it (1e-7 of the others') ends elsewhere in PyTorch itself when the start moves by a rounding.
    Such a training has no one result. The next start takes its place, at half the rate, to which the harm is proportional: a
    large model has some such weight from every start.
    """
    for _ in range(STARTS):
        build_start(training).save_pretrained(folder)
        expected = expected_training(training, folder)
        if not depends_on_rounding(training, folder, expected):
            return expected
        training.start += 1
        training.settings["learning_rate"] /= 2
    raise Mismatch(f"rounding decides what PyTorch gives from each of {STARTS} starts")


def check_training(training: Training, program: str, scratch: Path) -> None:
    start = scratch / "start"
    expected = settle_start(training, start)
    compare_trainings(expected, found_training(training, program, start, scratch))
