"""What each part of a model matters by each criterion, as include/utils/model_pruning/importance.h defines them.

Tensors of a file: weights.<name>, inputs.<batch> (token ids), scores.<criterion>.<part>.<layer>; parts without layers have
layer 0.
"""

from pathlib import Path

import torch
from transformers import GPTJForCausalLM, LlamaForCausalLM

from . import gptj, llama
from .case import Case, build, metadata, save, weights

def by_unit(matrix: torch.Tensor, dim: int, unit: int) -> torch.Tensor:
    """Sums of `unit` rows (dim 0) or columns (dim 1) at a time."""
    return matrix.double().sum(1 - dim).reshape(-1, unit).sum(1)


class Layer:
    def __init__(self, family: str, block):
        attention = block.self_attn if family == "llama" else block.attn
        self.query, self.key, self.value = attention.q_proj, attention.k_proj, attention.v_proj
        self.output = attention.o_proj if family == "llama" else attention.out_proj
        mlp = block.mlp
        self.inputs = [mlp.gate_proj, mlp.up_proj] if family == "llama" else [mlp.fc_in]
        self.down = mlp.down_proj if family == "llama" else mlp.fc_out
        self.block = block
        self.everything = [self.query, self.key, self.value, self.output, *self.inputs, self.down]


def matrix_scores(layers, table, head, head_dim, elements) -> dict:
    scores = {}
    for i, layer in enumerate(layers):
        group = layer.query.out_features // layer.key.out_features
        of = {id(linear): elements(linear.weight) for linear in layer.everything}
        q, k, v, o = (of[id(linear)] for linear in (layer.query, layer.key, layer.value, layer.output))
        heads = by_unit(q, 0, head_dim) + by_unit(o, 1, head_dim)
        if group == 1:
            heads += by_unit(k, 0, head_dim) + by_unit(v, 0, head_dim)
        scores[f"heads.{i}"] = heads
        scores[f"groups.{i}"] = (
            by_unit(q, 0, group * head_dim)
            + by_unit(o, 1, group * head_dim)
            + by_unit(k, 0, head_dim)
            + by_unit(v, 0, head_dim)
        )
        down = by_unit(of[id(layer.down)], 1, 1)
        scores[f"channels.{i}"] = down + sum(by_unit(of[id(linear)], 0, 1) for linear in layer.inputs)
    total = lambda layer: sum(elements(linear.weight).double().sum() for linear in layer.everything)
    scores["layers.0"] = torch.stack([total(layer) for layer in layers])
    hidden = elements(table).double().sum(0) + elements(head).double().sum(0)
    for layer in layers:
        for linear in layer.everything:
            hidden = hidden + elements(linear.weight).double().sum(1 if linear in (layer.output, layer.down) else 0)
    scores["hidden_units.0"] = hidden
    return scores


def activation_scores(model, layers, head_dim, batches) -> dict:
    seen = {}

    def watch(name, value):
        seen.setdefault(name, []).append(value.double().flatten(0, -2))

    def of_input(name, reduce):
        return lambda module, arguments: watch(name, reduce(arguments[0]))

    def of_block(name):
        def hook(module, arguments, keywords, output):
            states = arguments[0] if arguments else keywords["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            watch(name, 1 - torch.cosine_similarity(states, after, -1).unsqueeze(-1))

        return hook

    norms = lambda unit: lambda x: x.unflatten(-1, (-1, unit)).norm(dim=-1)
    for i, layer in enumerate(layers):
        group = layer.query.out_features // layer.key.out_features
        layer.output.register_forward_pre_hook(of_input(f"heads.{i}", norms(head_dim)))
        layer.output.register_forward_pre_hook(of_input(f"groups.{i}", norms(group * head_dim)))
        layer.down.register_forward_pre_hook(of_input(f"channels.{i}", torch.abs))
        layer.query.register_forward_pre_hook(of_input("hidden_units.0", torch.abs))
        layer.inputs[0].register_forward_pre_hook(of_input("hidden_units.0", torch.abs))
        layer.block.register_forward_hook(of_block(f"layers.{i}"), with_kwargs=True)
    with torch.no_grad():
        for ids in batches:
            model(input_ids=ids, use_cache=False)
    means = {name: torch.cat(values).mean(0) for name, values in seen.items()}
    means["layers.0"] = torch.cat([means.pop(f"layers.{i}") for i in range(len(layers))])
    return means


def scores(family: str, model, batches) -> dict:
    base = model.model if family == "llama" else model.transformer
    layers = [Layer(family, block) for block in (base.layers if family == "llama" else base.h)]
    table = (base.embed_tokens if family == "llama" else base.wte).weight
    head_dim = getattr(model.config, "head_dim", None) or model.config.hidden_size // model.config.num_attention_heads
    sum(model(input_ids=ids, labels=ids, use_cache=False).loss for ids in batches).backward()
    criteria = {"l1": torch.abs, "l2": torch.square, "taylor": lambda weight: (weight * weight.grad).abs()}
    result = {}
    with torch.no_grad():
        for criterion, elements in criteria.items():
            of_matrices = matrix_scores(layers, table, model.lm_head.weight, head_dim, elements)
            for part, score in of_matrices.items():
                result[f"scores.{criterion}.{part}"] = score.sqrt() if criterion == "l2" else score
    for part, score in activation_scores(model, layers, head_dim, batches).items():
        result[f"scores.activation.{part}"] = score
    return result


def write(folder: Path) -> None:
    for family, model_class, base in (("llama", LlamaForCausalLM, llama.BASE), ("gptj", GPTJForCausalLM, gptj.BASE)):
        case = Case(f"{family}_importance", model_class, base, inputs={})
        model = build(case)
        generator = torch.Generator().manual_seed(case.seed)
        batches = [torch.randint(3, base["vocab_size"], shape, generator=generator) for shape in ((2, 9), (1, 5))]
        tensors = {f"weights.{name}": tensor for name, tensor in weights(model).items()}
        tensors |= {f"inputs.{i}": ids for i, ids in enumerate(batches)}
        description = metadata(case, model)
        tensors |= {name: score.float() for name, score in scores(family, model, batches).items()}
        save(folder / f"{case.name}.safetensors", tensors, description)
