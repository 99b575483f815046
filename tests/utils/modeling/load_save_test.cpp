#include <ATen/ATen.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/io/checkpoint.h>
#include <transformers/utils/io/safetensors.h>

#include <filesystem>
#include <fstream>

#include "support/config_text.h"
#include "support/mapped_memory.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "support/warning_recorder.h"

namespace transformers::testing {
namespace {

namespace fs = std::filesystem;

std::map<std::string, std::string> files_of(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    files[entry.path().filename().string()] = read_file(entry.path().string());
  }
  return files;
}

class LoadSaveTest : public ::testing::TestWithParam<NamedConfig> {
 protected:
  const at::NoGradGuard no_grad_;
  const TemporaryFolder folder_;
  const std::shared_ptr<CausalLM> model_ = tiny_model(*GetParam().config);
};

TEST_P(LoadSaveTest, ASecondSaveGivesTheSameBytes) {
  const auto first = folder_ / "first", second = folder_ / "second";
  model_->save_pretrained(first);
  auto loaded = AutoModelForCausalLM::from_pretrained(first);
  loaded->save_pretrained(second);
  EXPECT_EQ(files_of(first), files_of(second));
  EXPECT_EQ(files_of(first).size(), 3);
  const auto ids = tiny_ids(2, 6);
  EXPECT_TENSORS_EQUAL(loaded->forward({.input_ids = ids}).logits, model_->forward({.input_ids = ids}).logits);
  EXPECT_FALSE(loaded->is_training());
}

TEST_P(LoadSaveTest, ShardsGiveTheSameModel) {
  const auto folder = folder_ / "shards";
  model_->save_pretrained(folder, {.max_shard_size = 4000});
  EXPECT_TRUE(fs::exists(folder + "/model.safetensors.index.json"));
  EXPECT_FALSE(fs::exists(folder + "/model.safetensors"));
  auto loaded = AutoModelForCausalLM::from_pretrained(folder);
  const auto ids = tiny_ids(2, 6);
  EXPECT_TENSORS_EQUAL(loaded->forward({.input_ids = ids}).logits, model_->forward({.input_ids = ids}).logits);
}

INSTANTIATE_TEST_SUITE_P(, LoadSaveTest, ::testing::ValuesIn(config_grid()),
                         [](const auto& info) { return info.param.name; });

// transformers takes the embeddings for a head that the config ties, whatever the file holds.
TEST(SavedTiesTest, TheConfigSaysWhatTheWeightsAre) {
  const TemporaryFolder folder;
  auto config = tiny_llama();
  config.tie_word_embeddings = true;
  const auto model = tiny_model(config);
  model->save_pretrained(folder.path().string());
  EXPECT_TRUE(LlamaConfig::from_pretrained(folder.path().string()).tie_word_embeddings);
  const at::NoGradGuard no_grad;
  model->get_output_embeddings()->tie_weight((model->get_input_embeddings()->weight * 2).requires_grad_());
  model->save_pretrained(folder.path().string());
  EXPECT_FALSE(LlamaConfig::from_pretrained(folder.path().string()).tie_word_embeddings);
  const auto loaded = AutoModelForCausalLM::from_pretrained(folder.path().string());
  EXPECT_TENSORS_EQUAL(loaded->get_output_embeddings()->weight, model->get_output_embeddings()->weight);
}

class FolderTest : public ::testing::Test {
 protected:
  std::string saved(PreTrainedModel& model) {
    const auto folder = folder_ / std::to_string(++folders_);
    model.save_pretrained(folder);
    return folder;
  }
  /// Rewrites the weights of a folder.
  template <typename Change>
  static void change_weights(const std::string& folder, const Change& change) {
    const auto path = folder + "/model.safetensors";
    torch::OrderedDict<std::string, at::Tensor> weights;
    {
      const SafetensorsFile file(path);
      for (const auto& info : file.tensors()) {
        weights.insert(info.name, file.tensor(info.name).clone());
      }
    }
    torch::OrderedDict<std::string, at::Tensor> changed;
    for (const auto& entry : weights) {
      change(entry.key(), entry.value(), changed);
    }
    save_safetensors(path, changed);
  }
  static void change_config(const std::string& folder, const std::string& key, const std::string& value) {
    write_file(folder + "/config.json", with_value(read_file(folder + "/config.json"), key, value));
  }

  const at::NoGradGuard no_grad_;
  const TemporaryFolder folder_;
  const at::Tensor ids_ = tiny_ids(2, 6);
  int folders_ = 0;
};

TEST_F(FolderTest, EveryHeadOfBothFamiliesComesBack) {
  const auto comes_back = [&](auto model) {
    const auto folder = saved(*model);
    auto loaded = AutoModelByArchitecture::from_pretrained(folder);
    EXPECT_EQ(loaded->architecture(), model->architecture());
    const auto expected = state_dict(*model), actual = state_dict(*loaded);
    ASSERT_EQ(actual.keys(), expected.keys());
    for (const auto& entry : expected) {
      EXPECT_TENSORS_EQUAL(actual[entry.key()], entry.value());
    }
  };
  comes_back(LlamaModel(tiny_llama()));
  comes_back(LlamaForSequenceClassification(tiny_llama()));
  comes_back(LlamaForQuestionAnswering(tiny_llama()));
  comes_back(LlamaForTokenClassification(tiny_llama()));
  comes_back(GPTJModel(tiny_gptj()));
  comes_back(GPTJForSequenceClassification(tiny_gptj()));
  comes_back(GPTJForQuestionAnswering(tiny_gptj()));
  comes_back(GPTJForTokenClassification(tiny_gptj()));
}

TEST_F(FolderTest, BaseWeightsGoIntoEveryHeadAndBack) {
  LlamaForCausalLM causal(tiny_llama());
  const auto folder = saved(*causal);
  LoadReport report;
  auto base = LlamaModel::from_pretrained(folder, {.report = &report});
  EXPECT_TENSORS_EQUAL(base->embed_tokens->weight, causal->model->embed_tokens->weight);
  EXPECT_EQ(report.unexpected, std::vector<std::string>{"lm_head.weight"});
  EXPECT_TRUE(report.missing.empty());
  auto answers = LlamaForQuestionAnswering::from_pretrained(folder, {.report = &report});
  EXPECT_EQ(report.initialized, (std::vector<std::string>{"qa_outputs.bias", "qa_outputs.weight"}));
  EXPECT_TENSORS_EQUAL(answers->named_parameters()["transformer.norm.weight"], causal->model->norm->weight);
  auto classifier = LlamaForSequenceClassification::from_pretrained(folder, {.report = &report});
  EXPECT_EQ(report.missing, std::vector<std::string>{"score.weight"});
  auto from_base = LlamaForCausalLM::from_pretrained(saved(*base), {.report = &report});
  EXPECT_EQ(report.initialized, std::vector<std::string>{"lm_head.weight"});
  EXPECT_NEAR(from_base->lm_head->weight.std().item().toDouble(), 0.2, 0.05);
}

TEST_F(FolderTest, ATiedWeightMayStandUnderEitherName) {
  auto config = tiny_llama();
  config.tie_word_embeddings = true;
  LlamaForCausalLM model(config);
  model->eval();  // as loaded ones are
  const auto folder = saved(*model);
  const auto expected = model->forward({.input_ids = ids_}).logits;
  EXPECT_FALSE(SafetensorsFile(folder + "/model.safetensors").contains("lm_head.weight"));
  change_weights(folder, [](const auto& name, const auto& tensor, auto& weights) {
    weights.insert(name == "model.embed_tokens.weight" ? "lm_head.weight" : name, tensor);
  });
  auto loaded = LlamaForCausalLM::from_pretrained(folder);
  EXPECT_TRUE(loaded->lm_head->weight.is_same(loaded->model->embed_tokens->weight));
  EXPECT_TENSORS_EQUAL(loaded->forward({.input_ids = ids_}).logits, expected);
}

TEST_F(FolderTest, TwoDifferentTiedWeightsAreNotTied) {
  auto config = tiny_llama();
  config.tie_word_embeddings = true;
  LlamaForCausalLM model(config);
  const auto folder = saved(*model);
  change_weights(folder, [](const auto& name, const auto& tensor, auto& weights) {
    weights.insert(name, tensor);
    if (name == "model.embed_tokens.weight") {
      weights.insert("lm_head.weight", tensor * 2);
    }
  });
  const WarningRecorder warnings;
  auto loaded = LlamaForCausalLM::from_pretrained(folder);
  EXPECT_TRUE(warnings.saw("not tied"));
  EXPECT_TENSORS_EQUAL(loaded->lm_head->weight, loaded->model->embed_tokens->weight * 2);
}

TEST_F(FolderTest, OneErrorNamesAllThatIsMissingOrMisshapen) {
  LlamaForCausalLM model(tiny_llama());
  const auto folder = saved(*model);
  change_weights(folder, [](const auto& name, const auto& tensor, auto& weights) {
    if (name == "model.norm.weight") {
      weights.insert("model.odd", tensor);
    } else {
      weights.insert(name, name == "model.layers.1.mlp.up_proj.weight" ? tensor.narrow(0, 0, 3).clone() : tensor);
    }
  });
  EXPECT_ERROR(LlamaForCausalLM::from_pretrained(folder), folder, "LlamaForCausalLM", "model.norm.weight", "model.odd",
               "model.layers.1.mlp.up_proj.weight", "[3, 24]", "[20, 24]");
}

TEST_F(FolderTest, ShapesMayBeIgnored) {
  LlamaForSequenceClassification model(tiny_llama());
  const auto folder = saved(*model);
  change_config(folder, "id2label", R"({"0": "a", "1": "b", "2": "c"})");
  EXPECT_ERROR(LlamaForSequenceClassification::from_pretrained(folder), "score.weight", "[2, 24]", "[3, 24]");
  LoadReport report;
  const auto loaded =
      LlamaForSequenceClassification::from_pretrained(folder, {.ignore_mismatched_sizes = true, .report = &report});
  EXPECT_EQ(loaded->score->weight.size(0), 3);
  EXPECT_EQ(report.initialized, std::vector<std::string>{"score.weight"});
  ASSERT_EQ(report.mismatched.size(), 1);
}

// As HF's from_pretrained(folder, num_labels=3, ignore_mismatched_sizes=True).
TEST_F(FolderTest, TheNumberOfLabelsMayBeGiven) {
  const auto folder = saved(*LlamaForCausalLM(tiny_llama()));
  const auto loaded = AutoModelForSequenceClassification::from_pretrained(folder, {.num_labels = 3});
  EXPECT_EQ(loaded->score->weight.size(0), 3);
  EXPECT_EQ(loaded->config().id2label.at(2), "LABEL_2");
  const auto classifier = saved(*LlamaForSequenceClassification(tiny_llama()));
  EXPECT_ERROR(LlamaForSequenceClassification::from_pretrained(classifier, {.num_labels = 5}), "score.weight");
  EXPECT_ERROR(LlamaForSequenceClassification::from_pretrained(classifier, {.num_labels = 0}), "num_labels", "got 0");
  change_config(classifier, "id2label", R"({"0": "a", "1": "b"})");
  const auto named = LlamaForSequenceClassification::from_pretrained(classifier, {.num_labels = 2});
  EXPECT_EQ(named->config().id2label.at(1), "b");
}

TEST_F(FolderTest, LegacyBuffersAreIgnored) {
  GPTJForCausalLM model(tiny_gptj());
  const auto folder = saved(*model);
  change_weights(folder, [](const auto& name, const auto& tensor, auto& weights) {
    weights.insert(name, tensor);
    if (name == "transformer.ln_f.bias") {
      weights.insert("transformer.h.0.attn.bias", at::ones({1, 1, 8, 8}, at::kByte));
      weights.insert("transformer.h.0.attn.masked_bias", at::scalar_tensor(-1e9));
    }
  });
  LoadReport report;
  const WarningRecorder warnings;
  GPTJForCausalLM::from_pretrained(folder, {.report = &report});
  EXPECT_EQ(report.ignored.size(), 2);
  EXPECT_TRUE(report.unexpected.empty());
  EXPECT_FALSE(warnings.saw("attn.bias"));
}

TEST_F(FolderTest, DtypeIsThatAskedForThenTheConfigsThenTheWeights) {
  const auto model = tiny_model(tiny_gptj(), at::kBFloat16);
  const auto folder = saved(*model);
  EXPECT_EQ(GPTJForCausalLM::from_pretrained(folder)->dtype(), at::kBFloat16);
  EXPECT_EQ(GPTJForCausalLM::from_pretrained(folder, {.dtype = at::kFloat})->dtype(), at::kFloat);
  change_config(folder, "dtype", R"("float16")");
  EXPECT_EQ(GPTJForCausalLM::from_pretrained(folder)->dtype(), at::kHalf);
  change_config(folder, "dtype", "null");
  EXPECT_EQ(GPTJForCausalLM::from_pretrained(folder)->dtype(), at::kBFloat16);
}

int64_t anonymous_memory() {
  std::ifstream file("/proc/self/smaps_rollup");
  for (std::string word; file >> word;) {
    if (int64_t kilobytes = 0; word == "Anonymous:" && file >> kilobytes) {
      return kilobytes * 1024;
    }
  }
  return 0;
}

TEST_F(FolderTest, LoadingWithoutACastCopiesNoWeight) {
  auto config = tiny_llama();
  config.hidden_size = 1024;
  config.intermediate_size = 4096;
  config.tie_word_embeddings = true;
  const auto folder = saved(*LlamaForCausalLM(config));
  const auto weights = static_cast<int64_t>(fs::file_size(folder + "/model.safetensors"));
  const auto before = anonymous_memory();
  auto loaded = LlamaForCausalLM::from_pretrained(folder);
  loaded->forward({.input_ids = ids_});
  EXPECT_LT(anonymous_memory() - before, weights / 4);
  EXPECT_EQ(mapped_memory(folder + "/model.safetensors", "Anonymous"), 0);
  EXPECT_GT(mapped_memory(folder + "/model.safetensors", "Rss"), weights * 9 / 10);
}

TEST_F(FolderTest, SavingOverTheFolderItCameFromWorks) {
  LlamaForCausalLM model(tiny_llama());
  const auto folder = saved(*model);
  const auto bytes = read_file(folder + "/model.safetensors");
  auto loaded = LlamaForCausalLM::from_pretrained(folder);
  loaded->save_pretrained(folder);
  EXPECT_EQ(read_file(folder + "/model.safetensors"), bytes);
  loaded->model->norm->weight.mul_(2);  // its own pages now
  EXPECT_TENSORS_EQUAL(loaded->model->norm->weight, model->model->norm->weight * 2);
}

TEST_F(FolderTest, GenerationConfigIsReadOrDerived) {
  LlamaForCausalLM model(tiny_llama());
  model->generation_config.temperature = 0.25;
  const auto folder = saved(*model);
  EXPECT_EQ(LlamaForCausalLM::from_pretrained(folder)->generation_config.temperature, 0.25);
  fs::remove(folder + "/generation_config.json");
  change_config(folder, "top_k", "7");
  const auto derived = LlamaForCausalLM::from_pretrained(folder)->generation_config;
  EXPECT_EQ(derived.top_k, 7);
  EXPECT_EQ(derived.eos_token_id, std::vector<int64_t>{2});
  EXPECT_FALSE(derived.temperature);
}

TEST_F(FolderTest, AVariantIsChosenByName) {
  LlamaForCausalLM model(tiny_llama());
  const auto folder = saved(*model);
  fs::rename(folder + "/model.safetensors", folder + "/model.fp32.safetensors");
  EXPECT_ERROR(LlamaForCausalLM::from_pretrained(folder), folder);
  EXPECT_TENSORS_EQUAL(LlamaForCausalLM::from_pretrained(folder, {.variant = "fp32"})->lm_head->weight,
                       model->lm_head->weight);
}

TEST_F(FolderTest, SizesThatTheWeightsCannotFillAreRefusedFirst) {
  const auto folder = saved(*LlamaForCausalLM(tiny_llama()));
  change_config(folder, "num_hidden_layers", "2000000000");
  EXPECT_ERROR(LlamaForCausalLM::from_pretrained(folder), "config.json", "2000000000 layers");
  const auto wide = saved(*LlamaForCausalLM(tiny_llama()));
  change_config(wide, "vocab_size", "2000000000");
  EXPECT_ERROR(LlamaForCausalLM::from_pretrained(wide), "embed_tokens.weight", "[40, 24]", "[2000000000, 24]");
  const auto labels = saved(*LlamaForSequenceClassification(tiny_llama()));
  change_config(labels, "num_labels", "1000000000");
  EXPECT_ERROR(LlamaForSequenceClassification::from_pretrained(labels), "num_labels");
}

TEST_F(FolderTest, AutoClassesRefuseAnUnknownOrContradictedFamily) {
  const auto folder = saved(*LlamaForCausalLM(tiny_llama()));
  const auto original = read_file(folder + "/config.json");
  change_config(folder, "model_type", R"("mistral")");
  EXPECT_ERROR(AutoModelForCausalLM::from_pretrained(folder), "config.json", "mistral");
  change_config(folder, "model_type", R"("gptj")");
  EXPECT_ERROR(AutoConfig::from_pretrained(folder), "config.json", "gptj", "LlamaForCausalLM");
  write_file(folder + "/config.json", without_key(original, "model_type"));
  EXPECT_ERROR(AutoConfig::from_pretrained(folder), "config.json", "model_type");
}

TEST_F(FolderTest, TheKernelIsChosenWhenLoadingAndNeverWritten) {
  const auto folder = saved(*LlamaForCausalLM(tiny_llama()));
  auto loaded = LlamaForCausalLM::from_pretrained(folder, {.attn_implementation = AttnImplementation::kEager});
  EXPECT_EQ(loaded->config().attn_implementation, AttnImplementation::kEager);
  EXPECT_EQ(loaded->config().to_json().find("attn_implementation"), std::string::npos);
}

}  // namespace
}  // namespace transformers::testing
