#include <ATen/ATen.h>
#include <transformers/utils/optim/optimizer.h>
#include <transformers/utils/optim/parameter_groups.h>
#include <transformers/utils/peft/peft_model.h>
#include <transformers/utils/quantization/weight_only.h>

#include <algorithm>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/training/run_start.h"

namespace transformers::testing {
namespace {

constexpr double kRelative = 1e-5;
const std::vector<std::string> kFamilies{"llama", "gptj"};

struct AdapterRun {
  GoldenCase start, golden;
  std::shared_ptr<CausalLM> model;
  PeftModel adapters{nullptr};
};

LoraConfig config_of(const GoldenCase& golden) { return LoraConfig::from_json(golden.arguments.at("options").dump()); }

/// Those of `prefix` in the golden, by the keys of the adapter's file.
std::map<std::string, at::Tensor> tensors_under(const GoldenCase& golden, const std::string& prefix) {
  std::map<std::string, at::Tensor> found;
  for (const auto& [name, tensor] : golden.tensors) {
    if (name.starts_with(prefix)) {
      found.emplace(name.substr(prefix.size()), tensor);
    }
  }
  return found;
}

void set_state(const PeftModel& adapters, const std::string& name, const std::map<std::string, at::Tensor>& values) {
  const at::NoGradGuard no_grad;
  const auto state = adapters->get_peft_model_state_dict(name);
  ASSERT_EQ(state.size(), values.size());
  for (const auto& [key, value] : values) {
    ASSERT_TRUE(state.contains(key)) << key;
    state[key].detach().copy_(value);
  }
}

void expect_state(const PeftModel& adapters, const std::map<std::string, at::Tensor>& expected) {
  const auto state = adapters->get_peft_model_state_dict();
  for (const auto& [key, value] : expected) {
    SCOPED_TRACE(key);
    EXPECT_TRUE(tensors_close_to_largest(state[key], value, kRelative));
  }
}

/// Runs a check on every golden adapter of both families, its matrices fresh from the golden's seed.
void for_each_adapter(const std::function<void(AdapterRun&)>& check) {
  for (const auto& family : kFamilies) {
    const auto cases = golden_cases("lora", "adapters_" + family);
    ASSERT_EQ(cases.size(), 10U);
    const auto start = std::find_if(cases.begin(), cases.end(), [](const auto& c) { return c.name == "start"; });
    for (const auto& golden : cases) {
      if (golden.name != "start") {
        SCOPED_TRACE(family + " " + golden.name);
        AdapterRun run{*start, golden, model_of(*start)};
        run.adapters = PeftModel(run.model);
        run.adapters->add_adapter("default", config_of(golden), {.seed = 7});
        check(run);
      }
    }
  }
}

CausalLMOutputWithPast output_of(const AdapterRun& run) {
  return run.model->forward({.input_ids = run.start.tensor("input_ids")}, {.labels = run.start.tensor("labels")});
}

at::Tensor loss_of(const AdapterRun& run) { return output_of(run).loss; }

TEST(PeftGoldenTest, ASeedGivesPeftsFreshValues) {
  for_each_adapter([](AdapterRun& run) {
    const auto state = run.adapters->get_peft_model_state_dict();
    for (const auto& [key, expected] : tensors_under(run.golden, "fresh.")) {
      SCOPED_TRACE(key);
      EXPECT_TRUE(tensors_close_to_largest(state[key], expected, 1e-6));
    }
  });
}

TEST(PeftGoldenTest, TrainsAsManyElementsAsPeft) {
  for_each_adapter([](AdapterRun& run) {
    const auto count = run.adapters->get_nb_trainable_parameters();
    EXPECT_EQ(count.trainable, run.golden.get<int64_t>("trainable"));
    EXPECT_EQ(count.all, run.golden.get<int64_t>("total"));
  });
}

TEST(PeftGoldenTest, OutputsAndGradientsEqualPefts) {
  for_each_adapter([](AdapterRun& run) {
    set_state(run.adapters, "default", tensors_under(run.golden, "initial."));
    const auto output = output_of(run);
    EXPECT_TRUE(tensors_close_to_largest(output.logits.detach(), run.golden.tensor("logits"), kRelative));
    EXPECT_TENSORS_CLOSE(output.loss.detach(), run.golden.tensor("loss"), {.relative = kRelative, .absolute = 0});
    output.loss.backward();

    std::map<const void*, at::Tensor> gradients;
    for (const auto& parameter : trainable_parameters(*run.adapters)) {
      gradients[parameter.const_data_ptr()] = parameter.grad();
    }
    const auto expected = tensors_under(run.golden, "grads.");
    EXPECT_EQ(gradients.size(), expected.size());
    for (const auto& item : run.adapters->get_peft_model_state_dict()) {
      SCOPED_TRACE(item.key());
      EXPECT_TRUE(
          tensors_close_to_largest(gradients.at(item.value().const_data_ptr()), expected.at(item.key()), kRelative));
    }
  });
}

/// Twenty steps of AdamW give the golden's losses and final adapter.
void expect_training(const AdapterRun& run) {
  AdamW optimizer(trainable_parameters(*run.adapters), torch::optim::AdamWOptions(5e-3).weight_decay(0.01));
  std::vector<double> losses;
  for (int i = 0; i < 20; ++i) {
    optimizer.zero_grad();
    const auto loss = loss_of(run);
    loss.backward();
    optimizer.step();
    losses.push_back(loss.item<double>());
  }
  EXPECT_TENSORS_CLOSE(at::tensor(losses, at::kDouble), run.golden.tensor("losses"),
                       {.relative = kRelative, .absolute = 0});
  expect_state(run.adapters, tensors_under(run.golden, "final."));
}

TEST(PeftGoldenTest, TwentyStepsOfAdamWGivePeftsCurveAndWeights) {
  for_each_adapter([](AdapterRun& run) {
    set_state(run.adapters, "default", tensors_under(run.golden, "initial."));
    expect_training(run);
  });
}

/// Over a base whose weights are quantised, peft's over one that holds what rounding leaves of them.
TEST(PeftGoldenTest, TwentyStepsOverQuantisedWeightsGivePeftsCurveAndWeights) {
  for (const auto& family : kFamilies) {
    const auto cases = golden_cases("quantization", "qlora_" + family);
    const auto start = std::ranges::find_if(cases, [](const auto& golden) { return golden.name == "start"; });
    for (const auto& golden : cases) {
      if (golden.name == "start") {
        continue;
      }
      SCOPED_TRACE(family + " " + golden.name);
      AdapterRun run{*start, golden, model_of(*start)};
      run.start.tensors["labels"] = run.start.tensor("input_ids");
      quantize(run.model->base_model(), {.format = weight_format_from_name(golden.name.substr(0, 4)),
                                         .group_size = 8,
                                         .activations = ActivationFormat::kFloat});
      run.adapters = PeftModel(run.model);
      run.adapters->add_adapter("default", config_of(golden), {.seed = 7});
      EXPECT_TRUE(tensors_close_to_largest(output_of(run).logits.detach(), golden.tensor("logits_before"), kRelative));
      expect_training(run);
    }
  }
}

/// The case's adapter as peft left it after training.
bool set_final(AdapterRun& run) {
  const auto final_state = tensors_under(run.golden, "final.");
  if (!final_state.empty()) {
    set_state(run.adapters, "default", final_state);
  }
  return !final_state.empty();
}

TEST(PeftGoldenTest, SwitchedOffTheModelGivesWhatPeftGives) {
  for_each_adapter([](AdapterRun& run) {
    if (set_final(run)) {
      const at::NoGradGuard no_grad;
      const DisableAdapter off(*run.adapters);
      EXPECT_TRUE(tensors_close_to_largest(output_of(run).logits, run.golden.tensor("logits_without"), kRelative));
    }
  });
}

TEST(PeftGoldenTest, MergedWeightsEqualPefts) {
  for_each_adapter([](AdapterRun& run) {
    if (!set_final(run)) {
      return;
    }
    const at::NoGradGuard no_grad;
    const auto before = output_of(run).logits;
    run.adapters->merge_and_unload();
    EXPECT_TRUE(tensors_close_to_largest(output_of(run).logits, before, kRelative));
    const auto weights = state_dict(*run.model);
    for (const auto& [name, expected] : tensors_under(run.golden, "merged.")) {
      SCOPED_TRACE(name);
      EXPECT_TRUE(tensors_close_to_largest(weights[name], expected, kRelative));
    }
  });
}

TEST(PeftGoldenTest, TwoAdaptersAtWorkGiveWhatPeftGives) {
  const auto cases = golden_cases("lora", "adapters_llama");
  const auto start = std::find_if(cases.begin(), cases.end(), [](const auto& c) { return c.name == "start"; });
  const auto golden = golden_cases("lora", "adapters_two").front();
  const auto model = model_of(*start);
  PeftModel adapters(model);
  adapters->add_adapter("default", {.r = 2, .target_modules = {.names = {"q_proj", "v_proj"}}});
  adapters->add_adapter("second", {.r = 3, .target_modules = {.names = {"v_proj"}}, .use_dora = true});
  for (const auto* name : {"default", "second"}) {
    set_state(adapters, name, tensors_under(golden, std::string(name) + "."));
  }
  adapters->set_adapter({"default", "second"});

  const at::NoGradGuard no_grad;
  const auto logits = [&] { return model->forward({.input_ids = golden.tensor("input_ids")}).logits; };
  EXPECT_TRUE(tensors_close_to_largest(logits(), golden.tensor("logits"), kRelative));
  adapters->merge_adapter();
  EXPECT_TRUE(tensors_close_to_largest(logits(), golden.tensor("merged_logits"), kRelative));
}

}  // namespace
}  // namespace transformers::testing
