"""Goldens of the Trainer's parts: early stopping, the best metric, checkpoint rotation, NEFTune, averages of weights, runs with them."""

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import AutoModelForCausalLM, EarlyStoppingCallback, Trainer
from transformers.integrations.neftune import activate_neftune, deactivate_neftune
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.trainer_utils import SaveStrategy, rotate_checkpoints

from .collection import Collection
from .training import FAMILIES, RUN_BATCH, build, run_data, settled_runs

# name: greater_is_better, patience, threshold, the metric of each evaluation
METRICS = {
    "loss": (False, 1, 0.0, (3.0, 2.5, 2.6, 2.4)),
    "patience": (False, 2, 0.0, (3.0, 2.5, 2.6, 2.4, 2.4, 2.5, 2.3)),
    "threshold": (False, 2, 0.2, (3.0, 2.9, 2.7, 2.6, 2.5, 2.0)),
    "accuracy": (True, 2, 0.0, (0.1, 0.3, 0.2, 0.35, 0.3, 0.35, 0.4)),
}


def evaluations() -> Collection:
    """After each evaluation: patience counter, whether to stop, best metric, best step (steps count from 1)."""
    collection = Collection()
    for name, (greater, patience, threshold, metrics) in METRICS.items():
        callback = EarlyStoppingCallback(patience, threshold)
        state, control = TrainerState(), TrainerControl()
        args = SimpleNamespace(
            greater_is_better=greater, metric_for_best_model="eval_metric", save_strategy=SaveStrategy.STEPS
        )
        trainer = SimpleNamespace(args=args, state=state)
        rows = []
        for step, metric in enumerate(metrics, 1):
            state.global_step = step
            callback.on_evaluate(args, state, control, {"eval_metric": metric})
            Trainer._determine_best_metric(trainer, {"eval_metric": metric}, None)
            counter = callback.early_stopping_patience_counter
            rows.append([counter, control.should_training_stop, state.best_metric, state.best_global_step])
        collection.add(
            name, {}, greater_is_better=greater, patience=patience, threshold=threshold, metrics=metrics, rows=rows
        )
    return collection


# name: save_total_limit, and of each checkpoint, in the order they are written, the best one known then
ROTATIONS = {
    "newest": (2, {2: None, 4: None, 6: None, 8: None}),
    "best_stays": (2, {2: 2, 4: 2, 6: 2, 8: 2}),
    "best_moves": (3, {2: 2, 4: 2, 6: 6, 8: 6, 10: 6, 12: 12}),
    "one": (1, {2: 2, 4: 2, 6: 6, 8: 6}),
    "earlier_run": (2, {100: None, 2: None, 4: None, 6: None}),
}


def rotations() -> Collection:
    """The steps that are left after each checkpoint, sorted."""
    collection = Collection()
    for name, (limit, checkpoints) in ROTATIONS.items():
        left = []
        with tempfile.TemporaryDirectory() as folder:
            for second, (step, best) in enumerate(checkpoints.items()):
                path = Path(folder) / f"checkpoint-{step}"
                path.mkdir()
                os.utime(path, (1_000_000 + second, 1_000_000 + second))
                best_path = None if best is None else str(Path(folder) / f"checkpoint-{best}")
                rotate_checkpoints(folder, limit, best_path, use_mtime=True)
                left.append(sorted(int(entry.name.split("-")[1]) for entry in Path(folder).iterdir()))
        steps, best = list(checkpoints), [step or 0 for step in checkpoints.values()]
        collection.add(name, {}, limit=limit, steps=steps, best=best, left=left)
    return collection


def neftune() -> Collection:
    """Embeddings with noise in train mode, without it in eval mode, and after the hook is gone."""
    collection = Collection()
    for family, config in FAMILIES.items():
        torch.manual_seed(5)
        model = AutoModelForCausalLM.from_config(config)
        embeddings = model.get_input_embeddings()
        ids = torch.randint(24, (2, 5), generator=torch.Generator().manual_seed(6))
        handle = activate_neftune(model, 5.0)
        model.train()
        torch.manual_seed(7)
        noisy = embeddings(ids)
        model.eval()
        clean = embeddings(ids)
        deactivate_neftune(model, handle)
        model.train()
        assert torch.equal(embeddings(ids), clean)
        tensors = dict(weight=embeddings.weight, ids=ids, noisy=noisy, clean=clean)
        collection.add(family, tensors, alpha=5.0, seed=7)
    return collection


def averages() -> Collection:
    """AveragedModel over five changes of a layer's parameters."""
    collection = Collection()
    for decay in (0.0, 0.9, 0.999):
        generator = torch.Generator().manual_seed(8)
        layer = torch.nn.Linear(3, 4)
        average = AveragedModel(layer, multi_avg_fn=get_ema_multi_avg_fn(decay))
        tensors = {}
        for step in range(5):
            for name, parameter in layer.named_parameters():
                parameter.data = torch.randn(parameter.shape, generator=generator)
                tensors[f"parameter.{step}.{name}"] = parameter.data.clone()
            average.update_parameters(layer)
            tensors |= {f"average.{step}.{name}": p.clone() for name, p in average.module.named_parameters()}
        collection.add(f"decay_{decay}", tensors, decay=decay)
    return collection


def neftune_run() -> Collection:
    """Eight steps of AdamW with noise; the weights are those of training's runs."""
    collection = Collection()
    for family in FAMILIES:
        model = build(family, settled_runs(family)[0])
        ids, labels = run_data()
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
        activate_neftune(model, 3.0)
        torch.manual_seed(9)
        losses = []
        for step in range(8):
            rows = [(step * RUN_BATCH + i) % len(ids) for i in range(RUN_BATCH)]
            loss = model(input_ids=ids[rows], labels=labels[rows]).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        collection.add(family, dict(loss=torch.tensor(losses, dtype=torch.float64)), alpha=3.0, seed=9)
    return collection


def write(folder: Path) -> None:
    evaluations().write(folder / "evaluations.safetensors")
    rotations().write(folder / "rotations.safetensors")
    neftune().write(folder / "neftune.safetensors")
    neftune_run().write(folder / "neftune_run.safetensors")
    averages().write(folder / "averages.safetensors")
