// What a call of `generate` must fulfil before anything is computed.
#include "utils/generation/generation_checks.h"

#include <unistd.h>

namespace transformers {
namespace {

/// Limits on the rows and the memory that a model's file may request; a call may request more.
constexpr int64_t kMostCopiesOfFile = 256;
constexpr double kMostStaticBytesOfFile = 4e9;

/// Numbers that multiply the work of a call are accepted from a file only up to a limit.
void check_asked_by_file(const GenerationConfig& call, const GenerationConfig& file) {
  const auto check = [](const char* field, const std::optional<int64_t>& said, const std::optional<int64_t>& stored) {
    TORCH_CHECK(said || stored.value_or(1) <= kMostCopiesOfFile, "the model's generation config: ", field,
                " must be at most ", kMostCopiesOfFile, ", got ", *stored, "; more must be asked for in the call");
  };
  check("num_beams", call.num_beams, file.num_beams);
  check("num_return_sequences", call.num_return_sequences, file.num_return_sequences);
}

void check_options(const GenerationConfig& options, const ModelInputs& inputs, const GenerateHooks& hooks) {
  options.validate();
  options.check_supported();
  TORCH_CHECK(hooks.streamer == nullptr || options.num_beams.value_or(1) == 1,
              "a streamer cannot follow beam search; num_beams must be 1, got ", options.num_beams.value_or(1));
  TORCH_CHECK(options.stop_strings.empty() || hooks.tokenizer != nullptr,
              "stop_strings need the model's tokenizer, none was given");
  TORCH_CHECK(inputs.past_key_values == nullptr || !options.cache_implementation,
              "cache_implementation and past_key_values cannot be given together, got \"",
              options.cache_implementation.value_or(""), "\" and a cache");
}

/// Drafts are compared token by token with what one row would have become without them.
void check_assistance(const GenerationConfig& options, const ModelInputs& inputs) {
  const auto refuse_if = [](bool asked, const char* what) {
    TORCH_CHECK(!asked,
                "generate: assisted decoding (assistant_model, prompt_lookup_num_tokens) cannot be combined with ",
                what);
  };
  refuse_if(options.num_beams.value_or(1) > 1, "beams");
  refuse_if(options.num_return_sequences.value_or(1) > 1 ||
                (inputs.input_ids.defined() && inputs.input_ids.dim() == 2 && inputs.input_ids.size(0) > 1),
            "several rows");
  refuse_if(inputs.inputs_embeds.defined(), "inputs_embeds");
  refuse_if(options.guidance_scale.value_or(1) != 1, "guidance_scale");
  refuse_if(!options.use_cache.value_or(inputs.use_cache.value_or(true)), "use_cache = false");
  refuse_if(options.cache_implementation.value_or("dynamic") != "dynamic" ||
                (inputs.past_key_values && dynamic_cast<DynamicCache*>(inputs.past_key_values.get()) == nullptr),
            "a cache that is not dynamic");
}

void check_assistant(const CausalLM& model, const GenerateHooks& hooks) {
  if (const auto& assistant = hooks.assistant_model) {
    TORCH_CHECK(assistant->config().vocab_size == model.config().vocab_size,
                "the assistant_model must have the model's vocabulary, got ", assistant->config().vocab_size, " and ",
                model.config().vocab_size, " tokens");
    TORCH_CHECK(assistant->device() == model.device(), "the assistant_model must be on the model's device, got ",
                assistant->device(), " and ", model.device());
  }
}

/// The options that change scores only when sampling, as a list; empty if none is set.
std::string sampling_options(const GenerationConfig& c) {
  std::string names;
  const auto name_if = [&](bool is_set, const char* name) {
    names += is_set ? (names.empty() ? "" : ", ") + std::string(name) : "";
  };
  name_if(c.temperature.value_or(1) != 1, "temperature");
  name_if(c.top_k.value_or(50) != 50, "top_k");
  name_if(c.top_p.value_or(1) != 1, "top_p");
  name_if(c.min_p.has_value(), "min_p");
  name_if(c.top_h.has_value(), "top_h");
  name_if(c.typical_p.value_or(1) != 1, "typical_p");
  name_if(c.epsilon_cutoff.value_or(0) != 0, "epsilon_cutoff");
  name_if(c.eta_cutoff.value_or(0) != 0, "eta_cutoff");
  return names;
}

/// If the model's config has options for sampling and the call wants none, that is not a mistake of the caller.
void warn_of_unused_options(const GenerationConfig& call, const GenerationConfig& merged) {
  const auto unused = sampling_options(call.do_sample ? call : merged);
  if (!merged.do_sample.value_or(false) && !unused.empty()) {
    TORCH_WARN_ONCE("generate: without do_sample there is no use for ", unused);
  }
}

}  // namespace

void check_call(const CausalLM& model, const ModelInputs& inputs, const GenerationConfig& call,
                const GenerationConfig& options, const GenerateHooks& hooks) {
  check_asked_by_file(call, model.generation_config);
  check_options(options, inputs, hooks);
  if (hooks.assistant_model != nullptr || options.prompt_lookup_num_tokens) {
    check_assistance(options, inputs);
    check_assistant(model, hooks);
  }
  warn_of_unused_options(call, options);
}

void check_rows(CausalLM& model, int64_t prompts, int64_t copies) {
  const double rows = static_cast<double>(prompts) * static_cast<double>(copies);
  const double scores = rows * static_cast<double>(model.config().vocab_size) * sizeof(float);
  const double memory = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  TORCH_CHECK(!model.device().is_cpu() || scores <= memory, "num_beams and num_return_sequences ask for ", rows,
              " rows, whose scores alone take ", scores, " bytes; this machine has ", memory);
}

void check_static_size(const CausalLM& model, const GenerationConfig& call, int64_t rows, int64_t tokens) {
  const auto sizes = model.config().sizes();
  const double bytes = 2.0 * static_cast<double>(c10::elementSize(model.dtype())) * static_cast<double>(rows) *
                       static_cast<double>(tokens) *
                       static_cast<double>(sizes.num_hidden_layers * sizes.num_key_value_heads * sizes.head_dim);
  TORCH_CHECK(call.max_new_tokens || call.max_length || bytes <= kMostStaticBytesOfFile,
              "the model's generation config: a static cache for max_length ", tokens, " takes ", bytes,
              " bytes, more than ", kMostStaticBytesOfFile, "; a length like that must be asked for in the call");
}

}  // namespace transformers
