"""LLaMA goldens: one case for each way a checkpoint or a call can differ."""

from pathlib import Path

import torch
from transformers import (
    LlamaForCausalLM,
    LlamaForQuestionAnswering,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    LlamaModel,
)

from . import inputs as make
from .case import Case, write_case

BASE = dict(
    vocab_size=make.VOCABULARY,
    hidden_size=24,
    intermediate_size=20,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=32,
    initializer_range=0.2,
    bos_token_id=1,
    eos_token_id=2,
)
LONG = dict(factor=2.5, original_max_position_embeddings=8)
FACTORS = dict(short_factor=[1.0, 1.1, 1.3], long_factor=[1.5, 3.0, 6.0])

# name: rope_parameters, max_position_embeddings, tokens of the call
ROPE = {
    "rope_theta": (dict(rope_type="default", rope_theta=500.0), 32, 7),
    "rope_linear": (dict(rope_type="linear", rope_theta=100.0, factor=4.0), 32, 7),
    "rope_dynamic_below": (dict(rope_type="dynamic", rope_theta=100.0, factor=3.0), 8, 7),
    "rope_dynamic_beyond": (dict(rope_type="dynamic", rope_theta=100.0, factor=3.0), 8, 13),
    "rope_yarn": (dict(rope_type="yarn", rope_theta=100.0, **LONG), 20, 12),
    "rope_yarn_options": (
        dict(
            rope_type="yarn",
            rope_theta=100.0,
            beta_fast=4.0,
            beta_slow=2.0,
            mscale=1.2,
            mscale_all_dim=0.8,
            truncate=False,
            **LONG,
        ),
        20,
        12,
    ),
    "rope_longrope_short": (dict(rope_type="longrope", rope_theta=100.0, **FACTORS, **LONG), 20, 7),
    "rope_longrope_long": (dict(rope_type="longrope", rope_theta=100.0, **FACTORS, **LONG), 20, 12),
    "rope_llama3": (
        dict(rope_type="llama3", rope_theta=100.0, low_freq_factor=1.0, high_freq_factor=4.0, **LONG),
        20,
        12,
    ),
    "rope_proportional": (
        dict(rope_type="proportional", rope_theta=100.0, partial_rotary_factor=0.7, factor=2.0),
        32,
        7,
    ),
}


def causal(name: str, inputs=None, options=None, **config) -> Case:
    attn = config.pop("attn_implementation", "eager")
    dtype = config.pop("dtype", torch.float32)
    inputs = make.labelled(make.ids(2, 7)) if inputs is None else inputs
    return Case("llama_" + name, LlamaForCausalLM, BASE | config, inputs, options or {}, attn, dtype)


def architecture_cases() -> list:
    return [
        causal("gqa"),
        causal("mha", num_key_value_heads=4),
        causal("mha_by_default", num_key_value_heads=None),
        causal("mqa", num_key_value_heads=1),
        causal("head_dim_above_hidden", head_dim=8),
        causal("head_dim_below_hidden", head_dim=4),
        causal("attention_bias", attention_bias=True),
        causal("attention_bias_pretraining_tp_2", attention_bias=True, pretraining_tp=2),
        causal("mlp_bias", mlp_bias=True),
        causal("both_biases", attention_bias=True, mlp_bias=True, num_key_value_heads=1),
        causal("tied_embeddings", tie_word_embeddings=True),
        causal("one_layer_gelu", num_hidden_layers=1, hidden_act="gelu"),
        causal("large_rms_norm_eps", rms_norm_eps=0.1),
        causal("padding_idx", make.padded("right"), pad_token_id=make.PAD),
        causal("padding_idx_tied", make.padded("right"), pad_token_id=make.PAD, tie_word_embeddings=True),
    ]


def rope_cases() -> list:
    cases = [
        causal(name, make.labelled(make.ids(2, length)), rope_parameters=parameters, max_position_embeddings=maximum)
        for name, (parameters, maximum, length) in ROPE.items()
    ]
    dynamic = dict(rope_parameters=ROPE["rope_dynamic_beyond"][0], max_position_embeddings=8)
    lengths = [dict(input_ids=make.ids(2, length, seed=length)) for length in (13, 5, 10)]
    cases.append(causal("rope_dynamic_resets", lengths, {"use_cache": False}, **dynamic))
    cases.append(causal("rope_dynamic_cached", make.steps(prompt=6), **dynamic))
    return cases


def mask_cases() -> list:
    blocks = make.block_mask(2, 7)
    plain = make.labelled(make.ids(2, 7))
    fractional = make.padded("right")
    fractional["attention_mask"] = fractional["attention_mask"] * 0.25
    packed = torch.tensor([[0, 1, 2, 0, 1, 2, 3], [0, 0, 1, 2, 0, 1, 2]])
    return [
        causal("left_padding", make.padded("left")),
        causal("left_padding_sdpa", make.padded("left"), attn_implementation="sdpa"),
        causal("left_padding_with_position_ids", make.left_padding_with_positions()),
        causal("right_padding", make.padded("right")),
        causal("mask_2d_fractional", fractional),
        causal("mask_4d_float", plain | {"attention_mask": make.additive(blocks)}),
        causal("mask_4d_bool_sdpa", plain | {"attention_mask": blocks}, attn_implementation="sdpa"),
        causal(
            "position_ids", plain | {"position_ids": torch.tensor([[3, 4, 5, 6, 7, 8, 9], [0, 2, 4, 6, 8, 10, 31]])}
        ),
        causal("packed_rows", plain | {"position_ids": packed}, {"use_cache": False}),
        causal("positions_restart_with_cache", plain | {"position_ids": packed}, {"use_cache": True}),
    ]


def call_cases() -> list:
    embeddings = make.normal(2, 7, BASE["hidden_size"])
    input_ids = make.ids(2, 7)
    past = make.cache_tensors(layers=2, batch=2, heads=2, length=4, size=6)
    shifted = torch.cat([input_ids[:, 1:], torch.full((2, 1), -100)], dim=1)
    return [
        causal("inputs_embeds", {"inputs_embeds": embeddings, "labels": input_ids}),
        causal("single_token", {"input_ids": make.ids(2, 1)}),
        causal("given_cache", {"input_ids": make.ids(2, 3), **past}),
        causal("cached_steps", make.steps()),
        causal("cached_steps_left_padding", make.steps(with_mask=True)),
        causal("logits_to_keep_2", {"input_ids": input_ids}, {"logits_to_keep": 2}),
        causal("logits_to_keep_indices", {"input_ids": input_ids, "logits_to_keep": torch.tensor([0, 3, 5])}),
        causal("labels_ignored", make.labels_with_holes(2, 7)),
        causal("num_items_in_batch", make.labels_with_holes(2, 7), {"num_items_in_batch": 19}),
        causal("shift_labels", {"input_ids": input_ids, "labels": input_ids, "shift_labels": shifted.flip(0)}),
        causal("bfloat16", dtype=torch.bfloat16),
        causal("bfloat16_sdpa", dtype=torch.bfloat16, attn_implementation="sdpa"),
        causal("bfloat16_left_padding", make.padded("left"), dtype=torch.bfloat16),
        causal("bfloat16_cached_steps", make.steps(), dtype=torch.bfloat16),
        causal("float16", dtype=torch.float16),
        causal("float16_left_padding", make.padded("left"), dtype=torch.float16),
        Case("llama_base_model", LlamaModel, BASE, {"input_ids": input_ids}),
        Case(
            "llama_base_model_left_padding",
            LlamaModel,
            BASE,
            {k: v for k, v in make.padded("left").items() if k != "labels"},
        ),
    ]


def head_cases() -> list:
    cases = []
    problems = [
        ("single_label_classification", 3),
        ("multi_label_classification", 3),
        ("regression", 1),
        ("regression", 3),
    ]
    for stated in (True, False):
        for problem, labels in problems:
            if not stated and (problem, labels) == ("regression", 3):
                continue  # without a stated type three float labels mean multi-label
            config = BASE | {"num_labels": labels, "pad_token_id": 0} | ({"problem_type": problem} if stated else {})
            rows = make.POOLING_ROWS
            inputs = {"input_ids": rows, "labels": make.classification_labels(problem, len(rows), labels)}
            name = f"llama_sequence_{problem}_{labels}" + ("" if stated else "_derived")
            cases.append(Case(name, LlamaForSequenceClassification, config, inputs))
    one = {"input_ids": make.ids(1, 6), "labels": torch.tensor([1])}
    cases.append(Case("llama_sequence_no_pad_id", LlamaForSequenceClassification, BASE | {"num_labels": 3}, one))
    spans = {
        "input_ids": make.ids(3, 6),
        "start_positions": torch.tensor([1, 0, 9]),
        "end_positions": torch.tensor([4, 6, 2]),
    }
    cases.append(Case("llama_question_answering", LlamaForQuestionAnswering, BASE, spans))
    tags = torch.tensor([[0, 1, 2, -100, 1, 0], [2, 2, -100, 1, 0, 1]])
    tagged = {"input_ids": make.ids(2, 6), "labels": tags}
    cases.append(Case("llama_token_classification", LlamaForTokenClassification, BASE | {"num_labels": 3}, tagged))
    return cases


def write(folder: Path) -> None:
    for case in architecture_cases() + rope_cases() + mask_cases() + call_cases() + head_cases():
        write_case(case, folder)
