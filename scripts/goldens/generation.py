"""Generation goldens: logits processors as a GenerationConfig builds them, and whole generate() calls of tiny models.

processors.safetensors is a collection; a case states `options`, the fields of the GenerationConfig, and holds input_ids (prompt
and new tokens; `prompt_length` says where the prompt ends), attention_mask of the prompt, scores, and the processed scores.
The other files hold a model as in case.py; case.options are generate()'s arguments, results are sequences, scores.{t} and, with
beams, sequences_scores and beam_indices. Where an assistant drafts, assistant.<name> are its weights.
"""

import copy
from pathlib import Path

import torch
from transformers import GenerationConfig, GPTJForCausalLM, LlamaConfig, LlamaForCausalLM

from . import gptj, llama
from . import inputs as make
from .case import Case, build, metadata, save, weights
from .collection import Collection

EOS = 2
TOKENS = 24

# Sampling options stand alone with the default top_k switched off; every other row has it off by greedy decoding.
SAMPLING = {
    "temperature": dict(temperature=0.7),
    "temperature_high": dict(temperature=3.0),
    "top_k": dict(top_k=5),
    "top_k_above_vocabulary": dict(top_k=100),
    "top_k_ties": dict(top_k=3),
    "top_p": dict(top_p=0.6),
    "top_p_boundary": dict(top_p=0.5),
    "top_p_zero": dict(top_p=0.0),
    "min_p": dict(min_p=0.2),
    "typical_p": dict(typical_p=0.5),
    "epsilon_cutoff": dict(epsilon_cutoff=0.05),
    "epsilon_cutoff_above_all": dict(epsilon_cutoff=0.9),
    "eta_cutoff": dict(eta_cutoff=0.05),
    "top_h": dict(top_h=0.4),
    "all_sampling": dict(
        temperature=1.3, top_k=12, top_p=0.8, min_p=0.05, typical_p=0.9, epsilon_cutoff=0.01, eta_cutoff=0.01
    ),
    "sampling_renormalized": dict(temperature=0.8, top_k=6, top_p=0.9, renormalize_logits=True),
    "sampling_with_penalties": dict(temperature=0.8, top_k=6, repetition_penalty=1.4, min_new_tokens=20),
}
GREEDY = {
    "sequence_bias": dict(sequence_bias=[[[7], 1.5], [[5, 9], -3.0], [[4, 5, 11], 2.0]]),
    "repetition_penalty": dict(repetition_penalty=1.7),
    "repetition_penalty_below_one": dict(repetition_penalty=0.6),
    "no_repeat_ngram_1": dict(no_repeat_ngram_size=1),
    "no_repeat_ngram_2": dict(no_repeat_ngram_size=2),
    "no_repeat_ngram_3": dict(no_repeat_ngram_size=3),
    "bad_words": dict(bad_words_ids=[[7], [5, 9], [4, 5, 11], [6, 6, 6]]),
    "bad_words_eos_skipped": dict(bad_words_ids=[[EOS], [8]]),
    "min_length_below": dict(min_length=30),
    "min_length_reached": dict(min_length=8),
    "min_new_tokens_below": dict(min_new_tokens=9),
    "min_new_tokens_reached": dict(min_new_tokens=2),
    "forced_bos_not_first": dict(forced_bos_token_id=6),
    "forced_eos_now": dict(forced_eos_token_id=EOS, max_length=9),
    "forced_eos_later": dict(forced_eos_token_id=EOS, max_length=10),
    "remove_invalid_values": dict(remove_invalid_values=True),
    "exponential_decay_before": dict(exponential_decay_length_penalty=(5, 1.5)),
    "exponential_decay_after": dict(exponential_decay_length_penalty=(1, 1.5)),
    "suppress_tokens": dict(suppress_tokens=[3, 8, 23]),
    "begin_suppress_tokens_past": dict(begin_suppress_tokens=[3, 8]),
    "several_in_order": dict(
        sequence_bias=[[[7], 1.5]],
        repetition_penalty=1.3,
        no_repeat_ngram_size=2,
        bad_words_ids=[[8]],
        min_length=30,
        suppress_tokens=[3],
    ),
    "renormalize_logits": dict(renormalize_logits=True),
    "watermark_lefthash": dict(watermarking_config=dict(seeding_scheme="lefthash", bias=1.5, greenlist_ratio=0.4)),
    "watermark_selfhash": dict(watermarking_config=dict(seeding_scheme="selfhash", context_width=3, hashing_key=99991)),
    "two_eos_min_length": dict(min_length=30, eos_token_id=[EOS, 5]),
}
FIRST_STEP = {
    "begin_suppress_tokens_first": dict(begin_suppress_tokens=[3, 8]),
    "forced_eos_first": dict(forced_eos_token_id=[EOS, 4], max_length=7),
}


def processor_inputs(name: str) -> dict:
    input_ids = torch.tensor([[3, 3, 4, 5, 9, 6, 4, 5], [6, 6, 7, 8, 6, 6, 6, 6], [9, 5, 9, 5, 4, 9, 4, 5]])
    mask = torch.ones(3, 6, dtype=torch.long)
    mask[0, :2] = 0
    tokens = 2 * TOKENS if "selfhash" in name else TOKENS  # it looks at the best 40
    scores = make.normal(3, tokens, seed=21) * 2
    if "ties" in name:
        scores = scores.round()
    if "boundary" in name:  # probabilities 1/2, 1/4, 1/8, …: cumulative sums fall on the limit exactly
        scores = (-torch.arange(TOKENS).float() * torch.log(torch.tensor(2.0))).repeat(3, 1)
    if "invalid" in name:
        scores[0, 1], scores[1, 2], scores[2, 3] = float("nan"), float("inf"), float("-inf")
    if name in FIRST_STEP:
        input_ids = input_ids[:, :6]
    return {"input_ids": input_ids, "attention_mask": mask, "scores": scores}


def processed(options: dict, tensors: dict) -> torch.Tensor:
    config = GenerationConfig(**options)
    eos = options["eos_token_id"]
    config._eos_token_tensor = torch.tensor(eos if isinstance(eos, list) else [eos])
    model = LlamaForCausalLM(LlamaConfig(**llama.BASE | {"vocab_size": tensors["scores"].shape[1]}))
    mask = {"attention_mask": tensors["attention_mask"]}
    processors = model._get_logits_processor(config, input_ids_seq_length=6, device="cpu", model_kwargs=mask)
    return processors(tensors["input_ids"], tensors["scores"].clone())


def write_processors(folder: Path) -> None:
    collection = Collection()
    rows = {name: {"do_sample": True, "top_k": 0} | options for name, options in SAMPLING.items()}
    for name, options in (rows | GREEDY | FIRST_STEP).items():
        options = {"eos_token_id": EOS} | options
        tensors = processor_inputs(name)
        collection.add(name, tensors | {"processed": processed(options, tensors)}, options=options, prompt_length=6)
    collection.write(folder / "processors.safetensors")


GENERATE = {
    "greedy": dict(),
    "greedy_repetition_penalty": dict(repetition_penalty=1.5),
    "greedy_no_repeat_ngram": dict(no_repeat_ngram_size=2),
    "greedy_min_new_tokens": dict(min_new_tokens=6, bad_words_ids=[[7], [9, 10]]),
    "greedy_stops_at_eos": dict(),
    "beams": dict(num_beams=3),
    "beams_returned": dict(num_beams=4, num_return_sequences=3),
    "beams_early_stopping": dict(num_beams=3, early_stopping=True),
    "beams_never_stopping": dict(num_beams=3, early_stopping="never", length_penalty=2.0),
    "beams_length_penalty": dict(num_beams=3, length_penalty=-1.0, num_return_sequences=3),
    "beams_processors": dict(num_beams=3, repetition_penalty=1.3, no_repeat_ngram_size=2, min_new_tokens=4),
    "guidance": dict(guidance_scale=1.7),
    "sampled": dict(do_sample=True, temperature=1.2, top_k=12, top_p=0.9, num_return_sequences=2),
    "sampled_beams": dict(do_sample=True, num_beams=3, num_return_sequences=2),
}
# Drafts of several tokens; one row.
ASSISTED = {
    "prompt_lookup": dict(prompt_lookup_num_tokens=3),
    "prompt_lookup_processors": dict(
        prompt_lookup_num_tokens=4, max_matching_ngram_size=3, repetition_penalty=1.3, bad_words_ids=[[7]], min_new_tokens=8
    ),
    "prompt_lookup_sampled": dict(prompt_lookup_num_tokens=2, do_sample=True, temperature=0.6, top_k=0),
    "assistant": dict(),
    "assistant_heuristic": dict(num_assistant_tokens_schedule="heuristic_transient"),
    "assistant_sampled": dict(do_sample=True, temperature=1.2, top_k=12),
}
REPETITIVE = torch.tensor([[5, 9, 6, 11, 5, 9, 6, 4, 5, 9]])
SAMPLING_SEED = 11  # of the default generator at the start of every generate()


def frequent_tokens(case: Case, model) -> list:
    """Ids that greedy decoding does produce, so that the eos cases end some rows early and some late."""
    found = model.generate(**case.inputs, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=make.PAD)
    new = found[:, case.inputs["input_ids"].shape[1] :]
    return sorted({int(new[0, 3]), int(new[1, 7])})


def assistant_of(model, case: Case):
    """Often right: the model itself with some noise."""
    assistant = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(case.seed + 1)
    with torch.no_grad():
        for parameter in assistant.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0, 0.02, generator=generator))
    # transformers takes these from the assistant.
    schedule = case.options.pop("num_assistant_tokens_schedule", "constant")
    settings = dict(num_assistant_tokens=3, num_assistant_tokens_schedule=schedule, assistant_confidence_threshold=0.1)
    assistant.generation_config.update(**settings)
    return assistant, settings


def generate_assisted(case: Case, folder: Path) -> None:
    model = build(case)
    tensors = {f"weights.{name}": tensor for name, tensor in weights(model).items()}
    options, settings = dict(case.options), {}
    if "assistant" in case.name:
        options["assistant_model"], settings = assistant_of(model, case)
        options.pop("num_assistant_tokens_schedule", None)
        tensors |= {f"assistant.{name}": tensor for name, tensor in weights(options["assistant_model"]).items()}
    torch.manual_seed(SAMPLING_SEED)
    with torch.no_grad():
        result = model.generate(**case.inputs, **options, return_dict_in_generate=True, output_scores=True)
    tensors |= {f"inputs.{name}": tensor for name, tensor in case.inputs.items()}
    tensors |= {"outputs.sequences": result.sequences}
    tensors |= {f"outputs.scores.{step}": scores for step, scores in enumerate(result.scores)}
    case.options |= settings
    save(folder / f"{case.name}.safetensors", tensors, metadata(case, model))


def generate(case: Case, folder: Path) -> None:
    model = build(case)
    if case.name.endswith("stops_at_eos") or "beams" in case.name:
        case.options["eos_token_id"] = frequent_tokens(case, model)
    torch.manual_seed(SAMPLING_SEED)
    with torch.no_grad():
        result = model.generate(**case.inputs, **case.options, return_dict_in_generate=True, output_scores=True)
    tensors = {f"weights.{name}": tensor for name, tensor in weights(model).items()}
    tensors |= {f"inputs.{name}": tensor for name, tensor in case.inputs.items()}
    tensors |= {"outputs.sequences": result.sequences}
    if case.options.get("num_beams", 1) > 1:
        tensors |= {"outputs.sequences_scores": result.sequences_scores, "outputs.beam_indices": result.beam_indices}
    else:
        tensors |= {f"outputs.scores.{step}": scores for step, scores in enumerate(result.scores)}
    save(folder / f"{case.name}.safetensors", tensors, metadata(case, model))


def write(folder: Path) -> None:
    write_processors(folder)
    padded = {name: tensor for name, tensor in make.padded("left").items() if name != "labels"}
    for model_class, base in ((LlamaForCausalLM, llama.BASE), (GPTJForCausalLM, gptj.BASE)):
        for name, options in GENERATE.items():
            options = dict(max_new_tokens=10, do_sample=False, pad_token_id=make.PAD) | options
            prefix = model_class.config_class.model_type
            generate(Case(f"{prefix}_{name}", model_class, base, padded, options), folder)
        text = {"input_ids": REPETITIVE, "attention_mask": torch.ones_like(REPETITIVE)}
        for name, options in ASSISTED.items():
            options = dict(max_new_tokens=16, do_sample=False, pad_token_id=make.PAD, eos_token_id=EOS) | options
            prefix = model_class.config_class.model_type
            # From the second draft on transformers 5.23 gives LLaMA's assistant the whole text beside a cache that holds
            # it already. That shows in what is drawn, not in greedy texts.
            if (prefix, name) == ("llama", "assistant_sampled"):
                continue
            generate_assisted(Case(f"{prefix}_{name}", model_class, base, text, options), folder)
