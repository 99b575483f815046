#include <ATen/ATen.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/io/safetensors.h>
#include <transformers/utils/optim/parameter_groups.h>
#include <transformers/utils/peft/peft_model.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "support/golden_collection.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

constexpr const char* kQueryA = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";

at::Tensor logits_of(CausalLM& model) {
  const at::NoGradGuard no_grad;
  return model.forward({.input_ids = tiny_ids(2, 6)}).logits;
}

LoraConfig varied() {
  LoraConfig config{.r = 3, .lora_alpha = 7.5, .use_rslora = true, .modules_to_save = {"lm_head"}};
  config.target_modules.names = {"q_proj", "down_proj"};
  config.init_lora_weights = LoraInit::kRandom;
  config.rank_pattern = {{"down_proj", 2}};
  config.use_dora = true;
  return config;
}

class PeftFilesTest : public ::testing::Test {
 protected:
  /// Saves an adapter of the model and gives its tensors.
  StateDict saved(const LoraConfig& config = varied()) {
    PeftModel adapters(model);
    adapters->add_adapter("default", config);
    {
      const at::NoGradGuard no_grad;
      for (auto& parameter : trainable_parameters(*adapters)) {
        parameter.mul_(1.25);
      }
    }
    expected = logits_of(*model);
    adapters->save_pretrained(folder.path().string());
    StateDict state;
    for (const auto& item : adapters->get_peft_model_state_dict()) {
      state.insert(item.key(), item.value().clone());
    }
    adapters->unload();
    return state;
  }
  void write_weights(const StateDict& state) { save_safetensors(folder / "adapter_model.safetensors", state); }
  void load(PeftModel& adapters) { adapters->load_adapter("loaded", folder.path().string()); }

  TemporaryFolder folder;
  std::shared_ptr<CausalLM> model = tiny_model(tiny_llama());
  at::Tensor expected;
};

TEST_F(PeftFilesTest, ASavedAdapterComesBack) {
  const auto state = saved();
  PeftModel adapters(model);
  load(adapters);
  EXPECT_TENSORS_EQUAL(logits_of(*model), expected);
  EXPECT_EQ(adapters->get_peft_model_state_dict("loaded").keys(), state.keys());
  EXPECT_TRUE(trainable_parameters(*adapters).empty());
}

TEST_F(PeftFilesTest, AnAdapterCanBeTrainedOn) {
  saved();
  PeftModel adapters(model);
  adapters->load_adapter("loaded", folder.path().string(), {.is_trainable = true});
  EXPECT_EQ(trainable_parameters(*adapters).size(), 13U);  // 4 layers of A, B and magnitude, and lm_head
}

TEST_F(PeftFilesTest, TheFolderHoldsPeftsNames) {
  const auto state = saved();
  const SafetensorsFile file(folder / "adapter_model.safetensors");
  EXPECT_EQ(file.tensors().size(), state.size());
  for (const auto* key : {kQueryA, "base_model.model.model.layers.1.mlp.down_proj.lora_magnitude_vector",
                          "base_model.model.lm_head.weight"}) {
    EXPECT_TRUE(file.contains(key)) << key;
  }
  EXPECT_EQ(file.metadata().at("format"), "pt");
  const auto config = nlohmann::json::parse(read_file(folder / "adapter_config.json"));
  EXPECT_EQ(config.at("peft_type"), "LORA");
  EXPECT_EQ(config.at("inference_mode"), true);
  EXPECT_EQ(config.at("lora_alpha"), 7.5);
}

TEST_F(PeftFilesTest, PeftsAdaptersGivePeftsLogits) {
  for (const auto* family : {"llama", "gptj"}) {
    const auto cases = golden_cases("lora", std::string("adapters_") + family);
    const auto start = std::find_if(cases.begin(), cases.end(), [](const auto& c) { return c.name == "start"; });
    for (const auto& golden : cases) {
      if (golden.name == "start") {
        continue;
      }
      SCOPED_TRACE(std::string(family) + " " + golden.name);
      const auto text = start->arguments.at("config").dump();
      const auto other = family == std::string("llama") ? tiny_model(LlamaConfig::from_json(text))
                                                        : tiny_model(GPTJConfig::from_json(text));
      StateDict weights, state;
      for (const auto& [name, tensor] : start->tensors) {
        if (name.starts_with("weights.")) {
          weights.insert(name.substr(8), tensor);
        }
      }
      load_state_dict(*other, weights);
      for (const auto& [name, tensor] : golden.tensors) {
        if (name.starts_with("initial.")) {
          state.insert(name.substr(8), tensor);
        }
      }
      write_weights(state);
      write_file(folder / "adapter_config.json", golden.arguments.at("config").dump());
      PeftModel adapters(other);
      load(adapters);
      const at::NoGradGuard no_grad;
      const auto logits = other->forward({.input_ids = start->tensor("input_ids")}).logits;
      EXPECT_TRUE(tensors_close_to_largest(logits, golden.tensor("logits"), 1e-5));
    }
  }
}

TEST_F(PeftFilesTest, TheHeadOfATaskIsSavedWithItsAdapter) {
  auto config = tiny_llama();
  config.pad_token_id = 0;
  const LlamaForSequenceClassification classifier(config);
  PeftModel adapters(classifier.ptr());
  adapters->add_adapter("default", {.task_type = "SEQ_CLS", .target_modules = {.regex = "all-linear"}});
  EXPECT_EQ(adapters->peft_config("default").modules_to_save, (std::vector<std::string>{"classifier", "score"}));
  const auto keys = adapters->get_peft_model_state_dict().keys();
  EXPECT_EQ(std::count(keys.begin(), keys.end(), "base_model.model.score.weight"), 1);
  EXPECT_EQ(std::count(keys.begin(), keys.end(), "base_model.model.score.lora_A.weight"), 0);
  adapters->save_pretrained(folder.path().string());
  adapters->load_adapter("loaded", folder.path().string());
}

TEST_F(PeftFilesTest, TensorsOfTheBaseModelAreCopiedIntoIt) {
  auto state = saved();
  const auto embeddings = at::full_like(model->get_input_embeddings()->weight, 0.25).detach();
  state.insert("base_model.model.model.embed_tokens.weight", embeddings);
  write_weights(state);
  PeftModel adapters(model);
  load(adapters);
  EXPECT_TENSORS_EQUAL(model->get_input_embeddings()->weight.detach(), embeddings);
}

TEST_F(PeftFilesTest, AFileThatDoesNotFitIsRefusedWhole) {
  const auto state = saved();
  const auto base = logits_of(*model);
  PeftModel adapters(model);

  auto missing = state;
  missing.erase(kQueryA);
  write_weights(missing);
  EXPECT_ERROR(load(adapters), "adapter_model.safetensors", "missing", kQueryA);

  auto unknown = state;
  unknown.insert("base_model.model.nowhere.lora_A.weight", at::zeros({1}));
  write_weights(unknown);
  EXPECT_ERROR(load(adapters), "unexpected", "nowhere.lora_A.weight");

  auto shaped = state;
  shaped[kQueryA] = at::zeros({3, 5});
  write_weights(shaped);
  EXPECT_ERROR(load(adapters), "wrong shape", kQueryA, "[3, 5]");

  write_file(folder / "adapter_model.safetensors", "no tensors");
  EXPECT_ERROR(load(adapters), "adapter_model.safetensors");
  std::filesystem::remove(folder / "adapter_model.safetensors");
  EXPECT_ERROR(load(adapters), "neither adapter_model.safetensors nor adapter_model.bin");
  write_file(folder / "adapter_config.json", R"({"peft_type": "PREFIX_TUNING"})");
  EXPECT_ERROR(load(adapters), "adapter_config.json", "peft_type", "PREFIX_TUNING");

  EXPECT_TRUE(adapters->adapter_names().empty());
  EXPECT_TENSORS_EQUAL(logits_of(*model), base);
}

// A config of a few bytes that claims matrices of 40 terabytes.
TEST_F(PeftFilesTest, ARankThatNoTensorHasCostsNoMemory) {
  saved();
  auto config = LoraConfig::from_pretrained(folder.path().string());
  config.r = 2'000'000'000;
  config.rank_pattern.clear();
  write_file(folder / "adapter_config.json", config.to_json());
  PeftModel adapters(model);
  EXPECT_ERROR(load(adapters), "adapter_model.safetensors", "wrong shape", "expected [2000000000,");
}

TEST_F(PeftFilesTest, SavingNamesAnAdapterThatIsNotThere) {
  PeftModel adapters(model);
  EXPECT_ERROR(adapters->save_pretrained(folder.path().string()), "no adapter \"default\"");
}

}  // namespace
}  // namespace transformers::testing
