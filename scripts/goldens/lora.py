"""Goldens of adapters: what peft makes of tiny models (outputs, gradients, 20 AdamW steps, merged weights, fresh values by seed),
and of preference tuning and distillation, written out by hand."""

import json
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from transformers import AutoModelForCausalLM

from .case import config_text
from .collection import Collection
from .training import FAMILIES

STEPS = 20

# name: LoraConfig's options for llama; gptj names its layers differently.
CONFIGS = {
    "lora": dict(r=4, lora_alpha=16),
    "rslora": dict(r=4, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "o_proj", "up_proj"]),
    "dora": dict(r=3, lora_alpha=5, use_dora=True, target_modules=["v_proj", "down_proj"]),
    "modules_to_save": dict(r=2, modules_to_save=["lm_head", "norm"]),
    "all_linear": dict(r=2, lora_alpha=3, target_modules="all-linear", exclude_modules=["k_proj"]),
    "regex": dict(r=2, target_modules=r".*\.layers\.\d+\.mlp\.(gate|up)_proj"),
    "patterns": dict(
        r=2,
        target_modules=["q_proj", "down_proj"],
        layers_to_transform=[1],
        layers_pattern="layers",
        rank_pattern={"mlp.down_proj": 5},
        alpha_pattern={r"q_pr.j": 3},
    ),
    "lora_only": dict(r=2, bias="lora_only", lora_bias=True, target_modules=["q_proj"]),
    "all_biases": dict(r=2, bias="all", use_dora=True, target_modules=["q_proj"]),
}
LEAN = ("all_linear", "regex", "lora_only", "patterns")
GPTJ_NAMES = {"o_proj": "out_proj", "up_proj": "fc_in", "down_proj": "fc_out", "norm": "ln_f", "k_proj": "v_proj"}
GPTJ_OPTIONS = {
    "regex": dict(target_modules=r".*\.h\.\d+\.mlp\.fc_(in|out)"),
    "patterns": dict(
        target_modules=["q_proj", "fc_out"], layers_pattern="h", rank_pattern={"mlp.fc_out": 5}, alpha_pattern={r"q_pr.j": 3}
    ),
    "lora_only": dict(target_modules=["fc_in"]),
    "all_biases": dict(target_modules=["fc_in"]),
}


def options_of(family: str, name: str) -> dict:
    options = dict(CONFIGS[name])
    if family == "gptj":
        for key in ("target_modules", "modules_to_save", "exclude_modules"):
            if isinstance(options.get(key), list):
                options[key] = [GPTJ_NAMES.get(module, module) for module in options[key]]
        options |= GPTJ_OPTIONS.get(name, {})
    return options


def base_model(family: str):
    config = FAMILIES[family]
    if family == "llama":
        # Without quick rotations the gradient of a key's bias is mostly rounding, which Adam turns into whole steps.
        rotation = {"rope_type": "default", "rope_theta": 4.0}
        config = type(config)(**{**config.to_dict(), "attention_bias": True, "rope_parameters": rotation})
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def saved_config(peft_model) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        peft_model.peft_config["default"].save_pretrained(folder)
        config = json.loads((Path(folder) / "adapter_config.json").read_text())
    # Sets, in the file in no order.
    return {key: sorted(value) if key.endswith("_modules") and isinstance(value, list) else value for key, value in config.items()}


def state(peft_model) -> dict:
    return {key: tensor.detach().clone() for key, tensor in get_peft_model_state_dict(peft_model).items()}


def key_of(name: str) -> str:
    """A parameter's key in the file of its adapter."""
    return name.replace(".modules_to_save.default", "").replace("lora_magnitude_vector.default.weight", "lora_magnitude_vector").replace(
        ".default", ""
    )


def one_adapter(family: str, options: dict, ids, labels, lean: bool) -> dict:
    """From fresh values that make it count: outputs, gradients, 20 steps on one batch, the merged weights. A
    lean golden, of many layers, holds what one call and the loss curve show."""
    torch.manual_seed(7)
    model = get_peft_model(base_model_of(family), LoraConfig(**options))
    fresh = state(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape))
    tensors = {} if lean else {f"fresh.{key}": tensor for key, tensor in fresh.items() if "lora_" in key}
    tensors |= {f"initial.{key}": tensor for key, tensor in state(model).items()}
    output = model(input_ids=ids, labels=labels)
    output.loss.backward()
    tensors |= dict(logits=output.logits, loss=output.loss)
    learned = {key_of(name): parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    tensors |= {f"grads.{key}": parameter.grad.clone() for key, parameter in learned.items()}
    optimizer = torch.optim.AdamW(learned.values(), lr=5e-3, weight_decay=0.01)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    tensors |= dict(losses=torch.tensor(losses, dtype=torch.float64))
    if not lean:
        tensors |= {f"final.{key}": tensor for key, tensor in state(model).items()}
    with torch.no_grad(), model.disable_adapter():
        tensors["logits_without"] = model(input_ids=ids).logits
    config = saved_config(model)
    trainable, total = model.get_nb_trainable_parameters()
    merged = model.merge_and_unload()
    touched = set() if lean else {key.removeprefix("base_model.model.").rpartition(".lora_B")[0] for key in fresh if key.endswith(".lora_B.weight")}
    tensors |= {f"merged.{name}.weight": merged.get_submodule(name).weight.detach().clone() for name in touched}
    return dict(tensors=tensors, config=config, options=options, trainable=trainable, total=total)


MODELS = {}


def base_model_of(family: str):
    """The same weights each time, without touching the generator that a caller has seeded."""
    if family not in MODELS:
        with torch.random.fork_rng():
            MODELS[family] = base_model(family).state_dict()
    with torch.random.fork_rng():
        model = base_model(family)
    model.load_state_dict(MODELS[family])
    return model


def adapters(family: str) -> Collection:
    collection = Collection()
    ids = torch.randint(24, (2, 7), generator=torch.Generator().manual_seed(4))
    labels = ids.masked_fill(torch.rand(ids.shape, generator=torch.Generator().manual_seed(5)) < 0.3, -100)
    model = base_model_of(family)
    weights = {f"weights.{name}": tensor for name, tensor in model.state_dict().items()}
    collection.add("start", dict(input_ids=ids, labels=labels) | weights, config=json.loads(config_text(model)))
    for name in CONFIGS:
        result = one_adapter(family, options_of(family, name), ids, labels, lean=name in LEAN)
        collection.add(name, result.pop("tensors"), **result)
    return collection


def two_adapters(family: str) -> dict:
    """Both at work, the second a DoRA that sees what the first made, and merged together."""
    torch.manual_seed(9)
    model = get_peft_model(base_model_of(family), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    model.add_adapter("second", LoraConfig(r=3, use_dora=True, target_modules=["v_proj"]))
    model.base_model.set_adapter(["default", "second"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(0.2 * torch.randn(parameter.shape))
    ids = torch.randint(24, (2, 7), generator=torch.Generator().manual_seed(4))
    tensors = dict(input_ids=ids, logits=model(input_ids=ids).logits)
    for adapter in ("default", "second"):
        found = get_peft_model_state_dict(model, adapter_name=adapter)
        tensors |= {f"{adapter}.{key}": tensor.detach().clone() for key, tensor in found.items()}
    model.merge_adapter()
    tensors["merged_logits"] = model(input_ids=ids).logits
    return tensors


def preferences() -> Collection:
    """The sigmoid loss of DPO over log-probabilities, and those of labels under logits."""
    collection = Collection()
    generator = torch.Generator().manual_seed(6)
    names = ("policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected")
    for case, (beta, smoothing) in dict(plain=(0.1, 0.0), smoothed=(0.3, 0.2)).items():
        found = {name: (-10 * torch.rand(5, generator=generator)).requires_grad_() for name in names}
        pc, pr, rc, rr = found.values()
        margin = beta * ((pc - rc) - (pr - rr))
        losses = -(1 - smoothing) * torch.log(torch.sigmoid(margin)) - smoothing * torch.log(torch.sigmoid(-margin))
        losses.sum().backward()
        results = dict(losses=losses, chosen_rewards=beta * (pc - rc), rejected_rewards=beta * (pr - rr))
        gradients = {f"grad.{name}": tensor.grad for name, tensor in found.items() if name.startswith("policy")}
        collection.add(case, {k: v.detach() for k, v in (found | results | gradients).items()}, beta=beta, label_smoothing=smoothing)
    logits = torch.randn(3, 6, 11, generator=generator)
    labels = torch.randint(11, (3, 6), generator=generator)
    labels[0, :3], labels[1, 4:] = -100, -100
    rows = []
    for row in range(3):
        probabilities = torch.softmax(logits[row].double(), -1)
        rows.append(sum(torch.log(probabilities[t - 1, labels[row, t]]) for t in range(1, 6) if labels[row, t] != -100))
    collection.add("log_probs", dict(logits=logits, labels=labels, log_probs=torch.stack(rows).float()))
    return collection


def distillation() -> Collection:
    collection = Collection()
    generator = torch.Generator().manual_seed(8)
    for case, (temperature, alpha, num_items) in dict(plain=(2.0, 0.5, None), hot=(4.0, 0.9, 13), labels=(1.0, 0.0, None)).items():
        student = (2 * torch.randn(3, 5, 7, generator=generator)).requires_grad_()
        teacher = 2 * torch.randn(3, 5, 7, generator=generator)
        labels = torch.randint(7, (3, 5), generator=generator)
        labels[1, 2:] = -100
        total, count = 0.0, 0
        for row in range(3):
            for t in range(4):
                if labels[row, t + 1] == -100:
                    continue
                p = torch.softmax(teacher[row, t] / temperature, -1)
                q = torch.softmax(student[row, t] / temperature, -1)
                divergence = (p * (p / q).log()).sum() * temperature**2
                entropy = -torch.softmax(student[row, t], -1)[labels[row, t + 1]].log()
                total, count = total + alpha * divergence + (1 - alpha) * entropy, count + 1
        loss = total / (num_items or count)
        loss.backward()
        tensors = dict(student=student.detach(), teacher=teacher, labels=labels, loss=loss.detach(), grad=student.grad)
        collection.add(case, tensors, temperature=temperature, alpha=alpha, num_items=num_items)
    return collection


def write(folder: Path) -> None:
    for family in FAMILIES:
        adapters(family).write(folder / f"adapters_{family}.safetensors")
    pair = Collection()
    pair.add("llama", {name: tensor.detach() for name, tensor in two_adapters("llama").items()})
    pair.write(folder / "adapters_two.safetensors")
    preferences().write(folder / "dpo.safetensors")
    distillation().write(folder / "distillation.safetensors")
