#include <ATen/ATen.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/utils/generation/generate.h>

#include "cuda/skip_without_cuda.h"
#include "support/model_golden.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

class ModelsOnCudaTest : public ::testing::TestWithParam<std::string> {};

TEST_P(ModelsOnCudaTest, OutputsCacheAndGradientsEqualPythonOnTheCpu) {
  SKIP_WITHOUT_CUDA();
  expect_model_matches(Golden(golden_path("models", GetParam())), at::kCUDA);
}

INSTANTIATE_TEST_SUITE_P(Llama, ModelsOnCudaTest, ::testing::ValuesIn(golden_names("models", "llama_")),
                         [](const auto& info) { return info.param; });
INSTANTIATE_TEST_SUITE_P(Gptj, ModelsOnCudaTest, ::testing::ValuesIn(golden_names("models", "gptj_")),
                         [](const auto& info) { return info.param; });

std::shared_ptr<CausalLM> load(const std::string& name, at::Device device, const TemporaryFolder& folder) {
  Golden(golden_path("models", name)).write_folder(folder.path().string());
  return AutoModelForCausalLM::from_pretrained(folder.path().string(), {.device = device});
}

class GenerationOnCudaTest : public ::testing::TestWithParam<std::string> {};

TEST_P(GenerationOnCudaTest, GreedyTokensAreThoseOfTheCpuWithEachCache) {
  SKIP_WITHOUT_CUDA();
  const TemporaryFolder on_cpu, on_cuda;
  const auto cpu = load(GetParam(), at::kCPU, on_cpu), cuda = load(GetParam(), at::kCUDA, on_cuda);
  const auto ids = at::tensor({5, 6, 7}, at::kLong).unsqueeze(0);
  for (const auto* cache : {"dynamic", "static"}) {
    GenerationConfig config;
    config.max_new_tokens = 12;
    config.cache_implementation = cache;
    const auto expected = generate(*cpu, {.input_ids = ids}, config).sequences;
    const auto found = generate(*cuda, {.input_ids = ids.to(at::kCUDA)}, config).sequences;
    EXPECT_TENSORS_EQUAL(found.cpu(), expected);
  }
}

TEST_P(GenerationOnCudaTest, PaddedRowsUnderFlashAttentionInFp32AreThoseOfTheCpu) {
  SKIP_WITHOUT_CUDA();
  const TemporaryFolder on_cpu, on_cuda;
  const auto cpu = load(GetParam(), at::kCPU, on_cpu), cuda = load(GetParam(), at::kCUDA, on_cuda);
  cuda->set_attn_implementation(AttnImplementation::kFlash);
  const auto ids = at::tensor({5, 6, 7, 8, 9, 10}, at::kLong).view({2, 3});
  const auto mask = at::tensor({0, 1, 1, 1, 1, 1}, at::kLong).view({2, 3});
  for (const auto* cache : {"dynamic", "static"}) {
    GenerationConfig config;
    config.max_new_tokens = 8;
    config.cache_implementation = cache;
    const auto expected = generate(*cpu, {.input_ids = ids, .attention_mask = mask}, config).sequences;
    const auto found =
        generate(*cuda, {.input_ids = ids.to(at::kCUDA), .attention_mask = mask.to(at::kCUDA)}, config).sequences;
    EXPECT_TENSORS_EQUAL(found.cpu(), expected);
  }
}

TEST_P(GenerationOnCudaTest, AModelSavedFromTheDeviceIsTheOneThatWasLoaded) {
  SKIP_WITHOUT_CUDA();
  const TemporaryFolder source, target;
  const auto cuda = load(GetParam(), at::kCUDA, source);
  cuda->save_pretrained(target.path().string());
  const auto again = AutoModelForCausalLM::from_pretrained(target.path().string());
  for (const auto& item : again->named_parameters()) {
    EXPECT_TENSORS_EQUAL(item.value(), cuda->named_parameters()[item.key()].cpu());
  }
}

INSTANTIATE_TEST_SUITE_P(, GenerationOnCudaTest, ::testing::Values("llama_gqa", "gptj_n_inner_null"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace transformers::testing
