// Mirrors the preparation in `GenerationMixin.generate` (generation/utils.py, transformers 5.23.0). Deviations: a mask
// that fits neither the text nor cache and text together is an error; so is a prompt that the cache holds already.
#include "utils/generation/generation_plan.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "utils/generation/generation_checks.h"
#include "utils/generation/logits_processor_list.h"
#include "utils/generation/vocabulary_ids.h"

namespace transformers {
namespace {

/// The sizes of the first inputs of the model: text, embeddings and cache.
struct PromptSizes {
  int64_t ids;   // columns of input_ids
  int64_t seq;   // tokens of the prompt, as ids or as embeddings
  int64_t past;  // tokens in the given cache
};

PromptSizes prompt_sizes(const ModelInputs& inputs, const at::Tensor& ids) {
  return {.ids = ids.size(1),
          .seq = inputs.inputs_embeds.defined() ? inputs.inputs_embeds.size(1) : ids.size(1),
          .past = inputs.past_key_values ? inputs.past_key_values->get_seq_length() : 0};
}

std::optional<int64_t> pad_id(const GenerationConfig& options) {
  return options.pad_token_id || options.eos_token_id.empty() ? options.pad_token_id : options.eos_token_id.front();
}

/// What an assistant model's config says about drafts holds where neither the call nor the model says anything.
DraftOptions draft_options(const GenerationConfig& options, const GenerateHooks& hooks) {
  const auto merged = hooks.assistant_model ? options.with_defaults(hooks.assistant_model->generation_config) : options;
  return {.are_wanted = hooks.assistant_model != nullptr || options.prompt_lookup_num_tokens,
          .prompt_lookup_num_tokens = options.prompt_lookup_num_tokens,
          .max_matching_ngram_size = options.max_matching_ngram_size.value_or(2),
          .num_assistant_tokens = merged.num_assistant_tokens.value_or(20),
          .is_heuristic = merged.num_assistant_tokens_schedule.value_or("constant") != "constant",
          .assistant_confidence_threshold = merged.assistant_confidence_threshold.value_or(0.4)};
}

at::Tensor prompt_ids(const CausalLM& model, const ModelInputs& inputs, const GenerationConfig& options) {
  const auto ids_options = at::TensorOptions().dtype(at::kLong).device(model.device());
  if (inputs.input_ids.defined()) {
    TORCH_CHECK(inputs.input_ids.dim() == 2, "input_ids must have shape [batch, seq], got ", inputs.input_ids.sizes());
    TORCH_CHECK(inputs.input_ids.numel() > 0 || inputs.inputs_embeds.defined(),
                "input_ids must not be empty, got shape ", inputs.input_ids.sizes());
    return inputs.input_ids.to(ids_options);
  }
  if (inputs.inputs_embeds.defined()) {
    TORCH_CHECK(inputs.inputs_embeds.dim() == 3, "inputs_embeds must have shape [batch, seq, hidden], got ",
                inputs.inputs_embeds.sizes());
    return at::empty({inputs.inputs_embeds.size(0), 0}, ids_options);
  }
  TORCH_CHECK(options.bos_token_id, "without input_ids and inputs_embeds a bos_token_id is needed, none is set");
  return at::full({1, 1}, *options.bos_token_id, ids_options);
}

/// 0 at padding tokens if the padding id cannot be an end token; undefined otherwise.
at::Tensor inferred_mask(const at::Tensor& ids, const GenerationConfig& options) {
  const auto& eos = options.eos_token_id;
  const auto pad = pad_id(options);
  if (!pad || std::ranges::find(eos, *pad) != eos.end()) {
    return {};
  }
  return ids.ne(*pad).to(at::kLong);
}

/// The mask over cache and prompt; undefined if nothing is padded, so that no step has to build one.
at::Tensor padding_mask(const ModelInputs& inputs, const at::Tensor& ids, const PromptSizes& sizes,
                        const GenerationConfig& options) {
  auto mask = inputs.attention_mask;
  if (mask.defined()) {
    TORCH_CHECK(mask.dim() == 2 && mask.size(0) == ids.size(0) &&
                    (mask.size(1) == sizes.seq || mask.size(1) == sizes.past + sizes.seq),
                "attention_mask must have shape [", ids.size(0), ", ", sizes.seq,
                sizes.past > 0 ? " or, with what the cache holds, " + std::to_string(sizes.past + sizes.seq) : "",
                "], got ", mask.sizes());
    mask = mask.to(ids.device());
  } else if (ids.size(1) == sizes.seq) {
    mask = inferred_mask(ids, options);
  }
  if (!mask.defined() || mask.ne(0).all().item<bool>()) {
    return {};
  }
  if (mask.select(1, -1).eq(0).any().item<bool>()) {
    TORCH_WARN_ONCE("generate: attention_mask ends with padding; prompts must be padded on the left");
  }
  return mask;
}

/// How many columns of the prompt the cache holds already.
int64_t first_input(const ModelInputs& inputs, const PromptSizes& sizes) {
  const bool only_new = inputs.attention_mask.defined() && inputs.attention_mask.size(1) != sizes.seq;
  if (only_new || sizes.past == 0) {
    return 0;
  }
  TORCH_CHECK(sizes.seq > sizes.past, "the prompt must be longer than the cache, got ", sizes.seq, " and ", sizes.past,
              " tokens; for new tokens only, give an attention_mask over the cache's and the new ones");
  return sizes.past;
}

at::Tensor prompt_positions(const ModelInputs& inputs, const at::Tensor& mask) {
  if (inputs.position_ids.defined() || !mask.defined()) {
    return inputs.position_ids;
  }
  const auto attends = mask.ne(0);
  return (attends.cumsum(-1) - 1).masked_fill(attends.logical_not(), 0);
}

at::Tensor expanded(const at::Tensor& tensor, int64_t copies) {
  return !tensor.defined() || copies == 1 ? tensor : tensor.repeat_interleave(copies, 0);
}

std::shared_ptr<Cache> make_cache(const GenerationConfig& options, int64_t tokens) {
  if (options.cache_implementation.value_or("dynamic") == "static") {
    return std::make_shared<StaticCache>(tokens);
  }
  return std::make_shared<DynamicCache>();
}

/// Where the limit on the length of a text came from.
std::string length_source(const GenerationConfig& call, const GenerationConfig& options) {
  if (call.max_new_tokens || call.max_length) {
    return "the call sets";
  }
  return options.max_new_tokens || options.max_length ? "the model's generation config sets"
                                                      : "max_position_embeddings of the model's config sets";
}

/// Settles max_length and min_length; mirrors `_prepare_generated_length` and `_validate_generated_length`.
void resolve_lengths(GenerationConfig& options, const PromptSizes& sizes, const PretrainedConfig& config,
                     const GenerationConfig& call) {
  constexpr int64_t default_new_tokens = 20;
  const auto embedded_only = sizes.ids == sizes.seq ? 0 : sizes.seq;  // tokens that the text does not contain
  const auto source = length_source(call, options);
  if (options.max_new_tokens) {
    options.max_length = *options.max_new_tokens + sizes.ids;
  } else if (options.max_length) {
    *options.max_length -= embedded_only;
  } else {
    options.max_length = std::min(default_new_tokens + sizes.ids, config.get_max_position_embeddings());
  }
  if (options.min_new_tokens) {
    options.min_length.reset();
  } else if (options.min_length) {
    options.min_length = std::max<int64_t>(0, *options.min_length - embedded_only);
  }
  TORCH_CHECK(sizes.ids < *options.max_length, "the prompt must be shorter than max_length, which ", source, ", got ",
              sizes.ids + embedded_only, " and ", *options.max_length + embedded_only, " tokens");
}

std::vector<std::shared_ptr<StoppingCriteria>> make_criteria(const GenerationConfig& options,
                                                             const GenerateHooks& hooks) {
  std::vector<std::shared_ptr<StoppingCriteria>> criteria{std::make_shared<MaxLengthCriteria>(*options.max_length)};
  if (options.max_time) {
    criteria.push_back(std::make_shared<MaxTimeCriteria>(*options.max_time));
  }
  if (!options.stop_strings.empty()) {
    criteria.push_back(std::make_shared<StopStringCriteria>(hooks.tokenizer, options.stop_strings));
  }
  if (!options.eos_token_id.empty()) {
    criteria.push_back(std::make_shared<EosTokenCriteria>(options.eos_token_id));
  }
  criteria.insert(criteria.end(), hooks.stopping_criteria.begin(), hooks.stopping_criteria.end());
  return criteria;
}

/// All inputs of the first step besides ids, with each row repeated `copies` times.
ModelInputs first_inputs(const ModelInputs& inputs, const at::Tensor& mask, const PromptSizes& sizes, int64_t first,
                         int64_t copies) {
  const auto seq = sizes.seq - first;
  const auto newest = [&](const char* name, const at::Tensor& tensor) {
    if (!tensor.defined()) {
      return tensor;
    }
    TORCH_CHECK(tensor.dim() == 2 && tensor.size(1) >= seq, name, " must have shape [batch, ", sizes.seq, "], got ",
                tensor.sizes());
    return tensor.slice(1, tensor.size(1) - seq);
  };
  auto first_step = inputs;
  first_step.input_ids.reset();
  first_step.attention_mask = expanded(mask, copies);
  const auto positions = newest("position_ids", prompt_positions(inputs, mask));
  const bool shared_by_rows = positions.defined() && positions.size(0) == 1;
  first_step.position_ids = shared_by_rows ? positions : expanded(positions, copies);
  first_step.token_type_ids = expanded(newest("token_type_ids", inputs.token_type_ids), copies);
  if (inputs.inputs_embeds.defined()) {
    first_step.inputs_embeds = expanded(inputs.inputs_embeds.slice(1, first), copies);
  }
  return first_step;
}

/// The cache for keys and values of the run: the one given in the call, none, or a new one for the longest rows.
void add_cache(GenerationPlan& plan, CausalLM& model, const ModelInputs& inputs, const GenerationConfig& options,
               const GenerationConfig& call) {
  // Embeddings serve the first step only: without a cache the later ones could not see them.
  const bool use_cache = options.use_cache.value_or(inputs.use_cache.value_or(true)) || inputs.inputs_embeds.defined();
  plan.model_inputs.use_cache = use_cache || inputs.past_key_values != nullptr;
  if (!use_cache || plan.model_inputs.past_key_values) {
    return;
  }
  const auto sizes = prompt_sizes(inputs, plan.input_ids);
  const auto tokens = plan.max_length - 1 + sizes.seq - sizes.ids;
  if (options.cache_implementation == "static") {
    check_static_size(model, call, plan.input_ids.size(0), tokens);
  }
  plan.model_inputs.past_key_values = make_cache(options, tokens);
}

}  // namespace

GenerationPlan plan_generation(CausalLM& model, const ModelInputs& inputs, const GenerationConfig& config,
                               const GenerateHooks& hooks) {
  auto options = config.with_defaults(model.generation_config);
  check_call(model, inputs, config, options, hooks);
  options.eos_token_id = ids_of_vocabulary(options.eos_token_id, model.config());
  const auto ids = prompt_ids(model, inputs, options);
  const auto sizes = prompt_sizes(inputs, ids);
  const auto mask = padding_mask(inputs, ids, sizes, options);
  const auto first = first_input(inputs, sizes);
  resolve_lengths(options, sizes, model.config(), config);

  const auto beams = options.num_beams.value_or(1), returned = options.num_return_sequences.value_or(1);
  const auto copies = std::max(beams, returned);
  check_rows(model, ids.size(0), copies);

  GenerationPlan plan{
      .do_sample = options.do_sample.value_or(false),
      .num_beams = beams,
      .num_return_sequences = returned,
      .early_stopping = options.early_stopping.value_or(EarlyStopping::kNo),
      .length_penalty = options.length_penalty.value_or(1),
      .max_length = *options.max_length,
      .output_scores = options.output_scores.value_or(false),
      .output_logits = options.output_logits.value_or(false),
      .eos_token_id = options.eos_token_id,
      .pad_token_id = pad_id(options),
      .drafts = draft_options(options, hooks),
      .input_ids = expanded(ids, copies),
      .model_inputs = first_inputs(inputs, mask, sizes, first, copies),
      .first_input = first,
      .prompt_tokens = mask.defined() ? mask.ne(0).sum().item<int64_t>() : ids.size(0) * sizes.seq,
      .logits_processors = {},
      .stopping_criteria = {},
  };
  add_cache(plan, model, inputs, options, config);
  const ProcessorContext context{.model = model,
                                 .eos_token_id = plan.eos_token_id,
                                 .prompt_length = sizes.ids,
                                 .max_length = plan.max_length,
                                 .attention_mask = plan.model_inputs.attention_mask};
  plan.logits_processors = make_logits_processors(options, context, hooks);
  plan.stopping_criteria = make_criteria(options, hooks);
  return plan;
}

at::Tensor process(const GenerationPlan& plan, const at::Tensor& input_ids, const at::Tensor& scores) {
  auto processed = scores;
  for (const auto& processor : plan.logits_processors) {
    processed = (*processor)(input_ids, processed);
  }
  return processed;
}

at::Tensor finished(const GenerationPlan& plan, const at::Tensor& input_ids, const std::vector<at::Tensor>& scores) {
  at::Tensor done;
  for (const auto& criterion : plan.stopping_criteria) {
    const auto also = (*criterion)(input_ids, scores);
    done = done.defined() ? done.logical_or(also) : also;
  }
  return done;
}

}  // namespace transformers
