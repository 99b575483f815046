// One model over a GPU and the CPU, and over two GPUs.
#include <ATen/ATen.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/utils/generation/generate.h>

#include "cuda/skip_without_cuda.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

constexpr double kOfTheLargest = 1e-5;  // kernels of two kinds

GPTJConfig four_blocks() {
  auto config = tiny_gptj();
  config.n_layer = 4;
  return config;
}

void expect_equal_logits(CausalLM& model, CausalLM& whole) {
  const at::NoGradGuard no_grad;
  const auto ids = tiny_ids(2, 7);
  const auto mask = at::tensor({0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, at::kLong).view({2, 7});
  EXPECT_TRUE(tensors_close_to_largest(
      model.forward({.input_ids = ids.to(model.device()), .attention_mask = mask.to(model.device())}).logits.cpu(),
      whole.forward({.input_ids = ids, .attention_mask = mask}).logits, kOfTheLargest));
}

void expect_equal_generation(CausalLM& model, CausalLM& whole) {
  GenerationConfig config;
  config.max_new_tokens = 8;
  config.num_beams = 2;
  const auto ids = tiny_ids(2, 5);
  EXPECT_TENSORS_EQUAL(generate(model, {.input_ids = ids.to(model.device())}, config).sequences.cpu(),
                       generate(whole, {.input_ids = ids}, config).sequences);
}

void expect_parallelized_equal(const BlocksByDevice& map) {
  const auto whole = tiny_model(four_blocks()), model = tiny_model(four_blocks());
  auto& gptj = dynamic_cast<GPTJForCausalLMImpl&>(*model);
  gptj.parallelize(map);
  expect_equal_logits(*model, *whole);
  expect_equal_generation(*model, *whole);
  gptj.deparallelize();
  const auto ids = tiny_ids(2, 7);
  EXPECT_TENSORS_EQUAL(model->forward({.input_ids = ids}).logits, whole->forward({.input_ids = ids}).logits);
}

TEST(GPTJParallelizeOnCudaTest, BlocksOnTheCpuAndAGpuGiveTheSameNumbers) {
  SKIP_WITHOUT_CUDA();
  expect_parallelized_equal({{c10::kCPU, {0, 1}}, {c10::Device("cuda:0"), {2, 3}}});
  expect_parallelized_equal({{c10::kCPU, {0, 2}}, {c10::Device("cuda:0"), {1, 3}}});
}

TEST(GPTJParallelizeOnCudaTest, TheDefaultMapTakesAllGpus) {
  SKIP_WITHOUT_CUDA();
  expect_parallelized_equal({});
}

TEST(GPTJParallelizeOnCudaTest, BlocksOnTwoGpusGiveTheSameNumbers) {
  SKIP_WITHOUT_CUDA_DEVICES(2);
  expect_parallelized_equal({{c10::Device("cuda:0"), {0, 1}}, {c10::Device("cuda:1"), {2, 3}}});
}

void expect_placed_equal(const PretrainedConfig& config, const DeviceMapOption& device_map) {
  const TemporaryFolder folder;
  tiny_model(config)->save_pretrained(folder / "model");
  const auto whole = AutoModelForCausalLM::from_pretrained(folder / "model");
  const auto model = AutoModelForCausalLM::from_pretrained(folder / "model", {.device_map = device_map});
  EXPECT_EQ(model->device(), c10::Device("cuda:0"));
  expect_equal_logits(*model, *whole);
  expect_equal_generation(*model, *whole);
  model->save_pretrained(folder / "again");
  EXPECT_EQ(read_file(folder / "again/model.safetensors"), read_file(folder / "model/model.safetensors"));
}

TEST(DeviceMapOnCudaTest, WeightsThatWaitOnTheCpuOrTheDiskRunOnTheGpu) {
  SKIP_WITHOUT_CUDA();
  expect_placed_equal(tiny_llama(), {{"", 0}, {"model.layers.1", "cpu"}, {"lm_head", "disk"}});
  expect_placed_equal(tiny_gptj(), {{"", "disk"}, {"transformer.h.0", 0}, {"transformer.wte", "cpu"}});
}

TEST(DeviceMapOnCudaTest, AutoTakesTheGpu) {
  SKIP_WITHOUT_CUDA();
  expect_placed_equal(tiny_llama(), "auto");
}

TEST(DeviceMapOnCudaTest, LayersOnTwoGpusGiveTheSameNumbers) {
  SKIP_WITHOUT_CUDA_DEVICES(2);
  expect_placed_equal(tiny_llama(), {{"", 0}, {"model.layers.1", 1}, {"model.norm", 1}, {"lm_head", 1}});
}

}  // namespace
}  // namespace transformers::testing
