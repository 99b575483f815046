#include <torch/torch.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/utils/generation/generate.h>
#include <transformers/utils/io/checkpoint.h>

#include <filesystem>

#include "support/mapped_memory.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/distributed/process_counters.h"
#include "utils/io/file_builders.h"

namespace transformers::testing {
namespace {

LlamaConfig tied_llama() {
  auto config = tiny_llama();
  config.tie_word_embeddings = true;
  return config;
}

struct Placed {
  std::string name;
  std::shared_ptr<PretrainedConfig> config;
  DeviceMapOption device_map;
};

template <typename Config>
Placed placed(const std::string& name, const Config& config, DeviceMapOption device_map) {
  return {name, std::make_shared<Config>(config), std::move(device_map)};
}

std::vector<Placed> placements() {
  return {placed("llama_on_disk", tiny_llama(), "disk"), placed("tied_llama_on_disk", tied_llama(), "disk"),
          placed("gptj_on_disk", tiny_gptj(), "disk"),
          placed("llama_half_on_disk", tiny_llama(), {{"", "cpu"}, {"model.layers.1", "disk"}, {"lm_head", "disk"}}),
          placed("gptj_half_on_disk", tiny_gptj(), {{"", "disk"}, {"transformer.h.0.mlp", "cpu"}})};
}

class PlacementTest : public ::testing::TestWithParam<Placed> {
 protected:
  void SetUp() override { tiny_model(*GetParam().config)->save_pretrained(folder_.path() / "model"); }
  std::string model_folder() const { return folder_ / "model"; }
  std::shared_ptr<CausalLM> load(const DeviceMapOption& device_map = {}) const {
    return AutoModelForCausalLM::from_pretrained(model_folder(), {.device_map = device_map});
  }

  TemporaryFolder folder_;
};

TEST_P(PlacementTest, LogitsAndCacheAreThoseOfTheWholeModel) {
  const at::NoGradGuard no_grad;
  const auto whole = load(), model = load(GetParam().device_map);
  const auto ids = tiny_ids(2, 7);
  for (int again = 0; again < 2; ++again) {
    const auto expected = whole->forward({.input_ids = ids}), found = model->forward({.input_ids = ids});
    EXPECT_TENSORS_EQUAL(found.logits, expected.logits);
    EXPECT_TENSORS_EQUAL(found.past_key_values->layer(1).first, expected.past_key_values->layer(1).first);
  }
}

TEST_P(PlacementTest, GeneratesAsTheWholeModel) {
  const auto whole = load(), model = load(GetParam().device_map);
  const auto ids = tiny_ids(2, 4);
  for (const int64_t beams : {1, 3}) {
    GenerationConfig config;
    config.max_new_tokens = 6;
    config.num_beams = beams;
    EXPECT_TENSORS_EQUAL(generate(*model, {.input_ids = ids}, config).sequences,
                         generate(*whole, {.input_ids = ids}, config).sequences);
  }
}

TEST_P(PlacementTest, SavesTheModelThatWasLoaded) {
  load(GetParam().device_map)->save_pretrained(folder_ / "again");
  for (const auto* name : {"model.safetensors", "config.json", "generation_config.json"}) {
    EXPECT_EQ(read_file(folder_ / "again/" + name), read_file(model_folder() + "/" + name)) << name;
  }
}

TEST_P(PlacementTest, KeepsNoValuesOfWhatLiesOnTheDisk) {
  const at::NoGradGuard no_grad;
  const auto model = load(GetParam().device_map);
  model->forward({.input_ids = tiny_ids(1, 3)});
  for (const auto& parameter : model->named_parameters()) {
    const bool on_disk = place_of(model->hf_device_map(), parameter.key()).is_disk();
    EXPECT_EQ(parameter->is_meta(), on_disk) << parameter.key();
    EXPECT_EQ(parameter->requires_grad(), !on_disk) << parameter.key();
  }
  EXPECT_EQ(model->device(), c10::Device(c10::kCPU));
  EXPECT_EQ(model->get_memory_footprint(), load()->get_memory_footprint());
}

INSTANTIATE_TEST_SUITE_P(, PlacementTest, ::testing::ValuesIn(placements()),
                         [](const auto& info) { return info.param.name; });

class DeviceMapLoadTest : public ::testing::Test {
 protected:
  void save(const PretrainedConfig& config) { tiny_model(config)->save_pretrained(folder_ / "model"); }
  std::shared_ptr<CausalLM> load(const LoadOptions& options) const {
    return AutoModelForCausalLM::from_pretrained(folder_ / "model", options);
  }

  TemporaryFolder folder_;
};

TEST_F(DeviceMapLoadTest, ConvertsWhatComesFromTheDisk) {
  save(tiny_llama());
  const at::NoGradGuard no_grad;
  const auto whole = load({.dtype = at::kDouble}), model = load({.dtype = at::kDouble, .device_map = "disk"});
  EXPECT_EQ(model->dtype(), at::kDouble);
  EXPECT_TENSORS_EQUAL(model->forward({.input_ids = tiny_ids(2, 5)}).logits,
                       whole->forward({.input_ids = tiny_ids(2, 5)}).logits);
}

TEST_F(DeviceMapLoadTest, FillsTheCpuAndLeavesTheRestOnTheDisk) {
  save(tiny_llama());
  const auto bytes = load({})->get_memory_footprint();
  const auto model = load({.device_map = "auto", .max_memory = MaxMemory{{"cpu", bytes * 3 / 4}}});
  const auto expected =
      infer_auto_device_map(module_sizes(*load({})), "auto", MaxMemory{{"cpu", bytes * 3 / 4}}, {"LlamaDecoderLayer"});
  EXPECT_EQ(model->hf_device_map(), expected);
  EXPECT_EQ(place_of(expected, "model.embed_tokens"), Place("cpu"));
  EXPECT_EQ(place_of(expected, "lm_head"), Place("disk"));
}

TEST_F(DeviceMapLoadTest, AutoTakesAllMemoryThatIsFree) {
  save(tiny_gptj());
  EXPECT_EQ(load({.device_map = "auto"})->hf_device_map().size(), 1U);
}

/// Eight layers of more than 10 MB.
LlamaConfig deep_llama() {
  auto config = tiny_llama();
  config.hidden_size = 512;
  config.intermediate_size = 1376;
  config.num_hidden_layers = 8;
  return config;
}

TEST_F(DeviceMapLoadTest, AModelOnTheDiskNeedsTheMemoryOfAboutOneLayer) {
  save(deep_llama());
  const at::NoGradGuard no_grad;
  const auto model = load({.device_map = "disk"});
  const auto run = [&] { model->forward({.input_ids = tiny_ids(1, 4), .use_cache = false}); };
  run();  // what LibTorch allocates once
  forget_peak();
  const auto before = process_bytes("VmRSS");
  int64_t layer = 0;
  for (const auto& parameter : model->base_model().structure().layers.front().block->parameters()) {
    layer += static_cast<int64_t>(parameter.nbytes());
  }
  if (process_bytes("VmHWM") > before + layer) {
    GTEST_SKIP() << "this system does not let the peak of memory begin anew";
  }
  run();
  EXPECT_LT(process_bytes("VmHWM") - before, 2 * layer);
  EXPECT_LT(mapped_memory((folder_.path() / "model" / "model.safetensors").string(), "Rss"), layer);
}

TEST_F(DeviceMapLoadTest, TrainsWhatLiesInMemoryBelowNothingOffloaded) {
  save(tiny_llama());
  const auto model = load({.device_map = {{"", "cpu"}, {"model.embed_tokens", "disk"}}});
  const auto ids = tiny_ids(1, 5);
  model->forward({.input_ids = ids, .use_cache = false}, {.labels = ids}).loss.backward();
  const auto whole = load({});
  whole->forward({.input_ids = ids, .use_cache = false}, {.labels = ids}).loss.backward();
  const auto* name = "model.layers.0.self_attn.q_proj.weight";
  EXPECT_TENSORS_EQUAL(model->named_parameters()[name].grad(), whole->named_parameters()[name].grad());
}

TEST_F(DeviceMapLoadTest, AGradientCannotFlowThroughTheDisk) {
  save(tiny_llama());
  const auto model = load({.device_map = {{"", "cpu"}, {"model.layers.1", "disk"}}});
  EXPECT_ERROR(model->forward({.input_ids = tiny_ids(1, 3)}), "model.layers.1.", "offloaded", "gradient");
}

TEST_F(DeviceMapLoadTest, RefusesMapsThatFitNeitherModelNorMachine) {
  save(tiny_llama());
  EXPECT_ERROR(load({.device_map = {{"model", "cpu"}}}), "gives no place to lm_head.weight");
  EXPECT_ERROR(load({.device_map = {{"", "cpu"}, {"transformer", "cpu"}}}), "no module transformer");
  EXPECT_ERROR(load({.device_map = {{"", 99}}}), "cuda:99");
  EXPECT_ERROR(load({.device_map = "auto", .max_memory = MaxMemory{{99, 1 << 30}}}), "cuda:99");
  EXPECT_ERROR(load({.device_map = {{"", 98}, {"model.layers.1.mlp", 99}}}), "block 1", "cuda:98 and cuda:99");
}

/// As torch.save writes them.
std::string torch_file(const StateDict& state) {
  std::vector<std::string> items, storages;
  for (const auto& entry : state) {
    const auto values = entry->contiguous();
    const auto storage = pickle::storage("FloatStorage", std::to_string(storages.size()), values.numel());
    items.push_back(pickle::text(entry.key()));
    items.push_back(pickle::tensor(storage, 0, values.sizes().vec(), values.strides().vec()));
    storages.emplace_back(static_cast<const char*>(values.const_data_ptr()), values.nbytes());
  }
  return torch_zip(pickle::whole(pickle::dict(items)), storages);
}

TEST_F(DeviceMapLoadTest, TheDiskTakesSafetensorsFiles) {
  save(tiny_llama());
  write_file(folder_ / "model/pytorch_model.bin", torch_file(state_dict(*load({}))));
  std::filesystem::remove(folder_ / "model/model.safetensors");
  EXPECT_EQ(load({.device_map = "cpu"})->hf_device_map().size(), 1U);
  EXPECT_ERROR(load({.device_map = {{"", "cpu"}, {"model.norm", "disk"}}}), "model.norm.weight",
               "not pytorch_model.bin");
}

TEST_F(DeviceMapLoadTest, APlacedModelIsNeitherMovedNorCopied) {
  save(tiny_llama());
  const auto model = load({.device_map = "disk"});
  EXPECT_ERROR(model->to(at::kCPU), "LlamaForCausalLM", "neither moved nor cast");
  EXPECT_ERROR(model->to(at::kHalf), "neither moved nor cast");
  EXPECT_ERROR(model->clone(), "cannot be copied");
}

TEST_F(DeviceMapLoadTest, APlacedModelIsNeitherPrunedNorResized) {
  save(tiny_llama());
  for (const DeviceMapOption& device_map : {DeviceMapOption("disk"), DeviceMapOption("cpu")}) {
    const auto model = load({.device_map = device_map});
    const auto before = model->num_parameters();
    EXPECT_ERROR(model->prune_heads({{0, {0, 1}}}), "LlamaForCausalLM was placed", "neither pruned nor resized");
    EXPECT_ERROR(model->keep_layers({0}), "LlamaForCausalLM was placed", "neither pruned nor resized");
    EXPECT_ERROR(model->resize_token_embeddings(50), "LlamaForCausalLM was placed", "neither pruned nor resized");
    EXPECT_EQ(model->num_parameters(), before);
    EXPECT_EQ(model->config().vocab_size, 40);
    EXPECT_EQ(model->config().get_num_hidden_layers(), 2);
  }
}

TEST_F(DeviceMapLoadTest, AParallelizedModelIsNotPrunedUntilItIsDeparallelized) {
  GPTJForCausalLM model(tiny_gptj());
  model->parallelize({{c10::kCPU, {0, 1}}});
  EXPECT_ERROR(model->keep_layers({1}), "GPTJForCausalLM was placed");
  model->deparallelize();
  model->keep_layers({1});
  EXPECT_EQ(model->config().get_num_hidden_layers(), 1);
}

void expect_two_halves_equal_the_whole(CausalLM& model, const ModelInputs& inputs) {
  const at::NoGradGuard no_grad;
  const auto expected = model.forward(inputs).logits;
  model.base_model().run_blocks({0, 1});
  const auto half = model.base_model().forward(inputs).last_hidden_state;
  model.base_model().run_blocks({1, 2});
  const auto found = model.forward({.attention_mask = inputs.attention_mask, .inputs_embeds = half}).logits;
  EXPECT_TENSORS_EQUAL(found, expected);
}

TEST(RunBlocksTest, TwoHalvesInTurnAreTheWholeModel) {
  const auto mask = torch::tensor({{0, 1, 1, 1, 1}, {1, 1, 1, 1, 1}});
  expect_two_halves_equal_the_whole(*tiny_model(tiny_llama()), {.input_ids = tiny_ids(2, 5), .attention_mask = mask});
  expect_two_halves_equal_the_whole(*tiny_model(tiny_gptj()), {.input_ids = tiny_ids(2, 5), .attention_mask = mask});
}

TEST(RunBlocksTest, RefusesBlocksThatTheModelLacks) {
  const auto model = tiny_model(tiny_llama());
  EXPECT_ERROR(model->base_model().run_blocks({0, 3}), "[0, 3)", "2");
  EXPECT_ERROR(model->base_model().run_blocks({1, 1}), "[1, 1)");
  EXPECT_ERROR(model->base_model().run_blocks({-1, 1}), "[-1, 1)");
}

TEST(NoSplitModulesTest, AreTheBlocks) {
  EXPECT_EQ(tiny_model(tiny_llama())->no_split_modules(), std::vector<std::string>{"LlamaDecoderLayer"});
  EXPECT_EQ(tiny_model(tiny_gptj())->no_split_modules(), std::vector<std::string>{"GPTJBlock"});
}

}  // namespace
}  // namespace transformers::testing
