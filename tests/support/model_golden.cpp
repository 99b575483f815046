#include "support/model_golden.h"

#include <torch/nn/module.h>
#include <transformers/auto/modeling_auto.h>

#include <algorithm>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

using Outputs = std::map<std::string, at::Tensor>;

/// Relative to the largest value, by the model's dtype: fp32 as the project promises, half precisions a few roundings.
double tolerance(const Golden& golden) {
  const auto& dtype = golden.metadata().at("dtype");
  return dtype == "float32" ? 1e-5 : dtype == "float16" ? 4e-3 : 3e-2;
}

template <typename Output>
void add_lists(Outputs& flat, const Output& output) {
  for (size_t i = 0; i < output.hidden_states.size(); ++i) {
    flat["hidden_states." + std::to_string(i)] = output.hidden_states[i];
  }
  for (size_t i = 0; i < output.attentions.size(); ++i) {
    flat["attentions." + std::to_string(i)] = output.attentions[i];
  }
}

Outputs run(PreTrainedModel& model, const ModelInputs& inputs, const Golden& golden, const std::string& step) {
  const auto input = [&](const char* name) { return golden.tensor("inputs." + step + name); };
  Outputs flat;
  if (auto* causal = dynamic_cast<CausalLM*>(&model)) {
    CausalLMOptions options{.labels = input("labels"),
                            .shift_labels = input("shift_labels"),
                            .num_items_in_batch = golden.number_option("num_items_in_batch")};
    options.logits_to_keep = static_cast<int64_t>(golden.number_option("logits_to_keep").value_or(0));
    options.positions_to_keep = input("logits_to_keep");
    const auto output = causal->forward(inputs, options);
    flat = {{"logits", output.logits}, {"loss", output.loss}};
    add_lists(flat, output);
  } else if (auto* base = dynamic_cast<BaseModel*>(&model)) {
    const auto output = base->forward(inputs);
    flat = {{"last_hidden_state", output.last_hidden_state}};
    add_lists(flat, output);
  } else if (auto* sequence = dynamic_cast<GenericForSequenceClassification*>(&model)) {
    const auto output = sequence->forward(inputs, input("labels"));
    flat = {{"logits", output.logits}, {"loss", output.loss}};
    add_lists(flat, output);
  } else if (auto* answers = dynamic_cast<GenericForQuestionAnswering*>(&model)) {
    const auto output = answers->forward(inputs, input("start_positions"), input("end_positions"));
    flat = {{"start_logits", output.start_logits}, {"end_logits", output.end_logits}, {"loss", output.loss}};
    add_lists(flat, output);
  } else if (auto* tokens = dynamic_cast<GenericForTokenClassification*>(&model)) {
    const auto output = tokens->forward(inputs, input("labels"));
    flat = {{"logits", output.logits}, {"loss", output.loss}};
    add_lists(flat, output);
  }
  return flat;
}

std::shared_ptr<Cache> given_cache(const Golden& golden) {
  std::vector<KeyValue> pairs;
  for (size_t i = 0;; ++i) {
    const auto prefix = "inputs.past_key_values." + std::to_string(i);
    if (!golden.contains(prefix + ".key")) {
      break;
    }
    pairs.emplace_back(golden.tensor(prefix + ".key"), golden.tensor(prefix + ".value"));
  }
  return DynamicCache::from_legacy_cache(pairs);
}

ModelInputs inputs_of(const Golden& golden, const std::string& step, std::shared_ptr<Cache> cache) {
  const auto input = [&](const char* name) { return golden.tensor("inputs." + step + name); };
  const bool wants_lists = golden.attn_implementation() == "eager";
  return {.input_ids = input("input_ids"),
          .attention_mask = input("attention_mask"),
          .position_ids = input("position_ids"),
          .token_type_ids = input("token_type_ids"),
          .inputs_embeds = input("inputs_embeds"),
          .head_mask = input("head_mask"),
          .past_key_values = std::move(cache),
          .use_cache = golden.bool_option("use_cache"),
          .output_attentions = wants_lists,
          .output_hidden_states = wants_lists};
}

void expect_outputs(const Golden& golden, const Outputs& actual, const std::string& step) {
  for (const auto& [name, expected] : golden.all("outputs." + step)) {
    if (name.starts_with("past_key_values.") || (step.empty() && name.starts_with("step"))) {
      continue;
    }
    SCOPED_TRACE(step + name);
    ASSERT_TRUE(actual.contains(name));
    EXPECT_TRUE(tensors_close_to_largest(actual.at(name), expected, tolerance(golden)));
  }
}

void expect_cache(const Golden& golden, const Cache* cache) {
  for (const auto& [name, expected] : golden.all("outputs.past_key_values.")) {
    SCOPED_TRACE(name);
    ASSERT_NE(cache, nullptr);
    const auto layer = cache->layer(std::stoll(name));
    EXPECT_TRUE(
        tensors_close_to_largest(name.ends_with("key") ? layer.first : layer.second, expected, tolerance(golden)));
  }
}

void expect_gradients(const Golden& golden, const PreTrainedModel& model) {
  const auto parameters = model.named_parameters();
  for (const auto& [name, expected] : golden.all("grads.")) {
    SCOPED_TRACE(name);
    const auto* parameter = parameters.find(name);
    ASSERT_NE(parameter, nullptr);
    const auto gradient = parameter->grad().defined() ? parameter->grad() : at::zeros_like(*parameter);
    // Some gradients are zero but for rounding (the last bias before a softmax over positions): nothing to be relative
    // to.
    constexpr double rounding = 1e-7;
    const auto largest = expected.abs().max().item<double>();
    EXPECT_TENSORS_CLOSE(gradient, expected,
                         {.relative = 0, .absolute = std::max(rounding, tolerance(golden) * largest)});
  }
}

}  // namespace

void expect_model_matches(const Golden& on_cpu, at::Device device) {
  const TemporaryFolder folder;
  on_cpu.write_folder(folder.path().string());
  LoadOptions options;
  options.device = device;
  options.attn_implementation = attn_implementation_from_name(on_cpu.attn_implementation());
  const auto model = AutoModelByArchitecture::from_pretrained(folder.path().string(), options);
  const auto golden = on_cpu.to(device);
  const auto cache = given_cache(golden);
  const auto use_cache = golden.bool_option("use_cache").value_or(true) ? cache : nullptr;
  if (golden.steps() == 0) {
    const auto outputs = run(*model, inputs_of(golden, "", use_cache), golden, "");
    expect_outputs(golden, outputs, "");
    if (const auto loss = outputs.find("loss"); loss != outputs.end() && loss->second.defined()) {
      loss->second.backward();
      expect_gradients(golden, *model);
    }
  }
  for (int64_t i = 0; i < golden.steps(); ++i) {
    const at::NoGradGuard no_grad;
    const auto step = "step" + std::to_string(i) + ".";
    expect_outputs(golden, run(*model, inputs_of(golden, step, use_cache), golden, step), step);
  }
  expect_cache(golden, use_cache.get());
}

}  // namespace transformers::testing
