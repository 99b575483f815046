"""GPT-J goldens: one case for each way a checkpoint or a call can differ."""

from pathlib import Path

import torch
from transformers import GPTJForCausalLM, GPTJForQuestionAnswering, GPTJForSequenceClassification, GPTJModel
from transformers.modeling_layers import GenericForTokenClassification
from transformers.models.gptj.modeling_gptj import GPTJPreTrainedModel

from . import inputs as make
from .case import Case, write_case

BASE = dict(
    vocab_size=make.VOCABULARY,
    n_embd=24,
    n_layer=2,
    n_head=3,
    n_positions=32,
    n_inner=20,
    rotary_dim=4,
    initializer_range=0.2,
    bos_token_id=1,
    eos_token_id=2,
)


class GPTJForTokenClassification(GenericForTokenClassification, GPTJPreTrainedModel):
    """Absent from transformers; its generic head on GPT-J is what the library offers."""

    base_model_prefix = "transformer"


def causal(name: str, inputs=None, options=None, **config) -> Case:
    dtype = config.pop("dtype", torch.float32)
    inputs = make.labelled(make.ids(2, 7)) if inputs is None else inputs
    return Case("gptj_" + name, GPTJForCausalLM, BASE | config, inputs, options or {}, dtype=dtype)


def architecture_cases() -> list:
    return [
        causal("rotary_partial"),
        causal("rotary_full", rotary_dim=8),
        causal("rotary_smallest", rotary_dim=2),
        causal("n_inner_null", n_inner=None, n_layer=1),
        causal("one_head", n_head=1, rotary_dim=16),
        causal("large_layer_norm_epsilon", layer_norm_epsilon=0.1),
        causal("activation_relu", activation_function="relu"),
        causal("tied_embeddings", tie_word_embeddings=True),
        causal("pad_token_id", make.padded("right"), pad_token_id=make.PAD),
    ]


def call_cases() -> list:
    input_ids = make.ids(2, 7)
    plain = make.labelled(input_ids)
    blocks = make.block_mask(2, 7)
    positions = torch.tensor([[3, 4, 5, 6, 7, 8, 9], [0, 2, 4, 6, 8, 10, 31]])
    packed = torch.tensor([[0, 1, 2, 0, 1, 2, 3], [0, 0, 1, 2, 0, 1, 2]])
    past = make.cache_tensors(layers=2, batch=2, heads=3, length=4, size=8)
    shifted = torch.cat([input_ids[:, 1:], torch.full((2, 1), -100)], dim=1)
    return [
        causal("token_type_ids", plain | {"token_type_ids": make.ids(2, 7, seed=6)}),
        causal("position_ids", plain | {"position_ids": positions}),
        causal("packed_rows", plain | {"position_ids": packed}, {"use_cache": False}),
        causal("left_padding", make.padded("left")),
        causal("left_padding_with_position_ids", make.left_padding_with_positions()),
        causal("right_padding", make.padded("right")),
        causal("mask_4d_float", plain | {"attention_mask": make.additive(blocks)}),
        causal("inputs_embeds", {"inputs_embeds": make.normal(2, 7, BASE["n_embd"]), "labels": input_ids}),
        causal("single_token", {"input_ids": make.ids(2, 1)}),
        causal("given_cache", {"input_ids": make.ids(2, 3), **past}),
        causal("cached_steps", make.steps()),
        causal("cached_steps_left_padding", make.steps(with_mask=True)),
        causal("logits_to_keep_2", {"input_ids": input_ids}, {"logits_to_keep": 2}),
        causal("logits_to_keep_indices", {"input_ids": input_ids, "logits_to_keep": torch.tensor([0, 3, 5])}),
        causal("labels_ignored", make.labels_with_holes(2, 7)),
        causal("num_items_in_batch", make.labels_with_holes(2, 7), {"num_items_in_batch": 19}),
        causal("shift_labels", {"input_ids": input_ids, "labels": input_ids, "shift_labels": shifted.flip(0)}),
    ]


def dtype_cases() -> list:
    cases = []
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype).removeprefix("torch.")
        cases += [
            causal(name, dtype=dtype),
            causal(f"{name}_left_padding", make.padded("left"), dtype=dtype),
            causal(f"{name}_cached_steps", make.steps(), dtype=dtype),
        ]
    return cases


def head_cases() -> list:
    cases = [Case("gptj_base_model", GPTJModel, BASE, {"input_ids": make.ids(2, 7)})]
    rows = make.POOLING_ROWS
    problems = [
        ("single_label_classification", 3),
        ("multi_label_classification", 3),
        ("regression", 1),
        ("regression", 3),
    ]
    for problem, labels in problems:
        config = BASE | {"num_labels": labels, "pad_token_id": 0, "problem_type": problem}
        inputs = {"input_ids": rows, "labels": make.classification_labels(problem, len(rows), labels)}
        cases.append(Case(f"gptj_sequence_{problem}_{labels}", GPTJForSequenceClassification, config, inputs))
    one = {"input_ids": make.ids(1, 6), "labels": torch.tensor([1])}
    cases.append(Case("gptj_sequence_no_pad_id", GPTJForSequenceClassification, BASE | {"num_labels": 3}, one))
    spans = {
        "input_ids": make.ids(3, 6),
        "start_positions": torch.tensor([1, 0, 9]),
        "end_positions": torch.tensor([4, 6, 2]),
    }
    # This head takes no cache.
    cases.append(Case("gptj_question_answering", GPTJForQuestionAnswering, BASE, spans, {"use_cache": False}))
    tags = {"input_ids": make.ids(2, 6), "labels": torch.tensor([[0, 1, 2, -100, 1, 0], [2, 2, -100, 1, 0, 1]])}
    cases.append(Case("gptj_token_classification", GPTJForTokenClassification, BASE | {"num_labels": 3}, tags))
    return cases


def write(folder: Path) -> None:
    for case in architecture_cases() + call_cases() + dtype_cases() + head_cases():
        write_case(case, folder)
