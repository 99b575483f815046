#include <ATen/ATen.h>
#include <transformers/llama/modeling_llama.h>

#include "support/golden.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

TEST(SinkCacheGoldenTest, GreedyStepsThroughAFullWindowEqualPython) {
  const at::NoGradGuard no_grad;
  const Golden golden(golden_path("legacy", "llama_sink_cache_generate"));
  const TemporaryFolder folder;
  golden.write_folder(folder.path().string());
  auto model = LlamaForCausalLM::from_pretrained(folder.path().string());
  const auto cache = std::make_shared<SinkCache>(static_cast<int64_t>(*golden.number_option("window_length")),
                                                 static_cast<int64_t>(*golden.number_option("num_sink_tokens")));
  auto sequence = golden.tensor("inputs.input_ids");
  auto ids = sequence;
  for (int64_t step = 0; step < static_cast<int64_t>(*golden.number_option("max_new_tokens")); ++step) {
    const auto scores = model->forward({.input_ids = ids, .past_key_values = cache}).logits.select(1, -1);
    EXPECT_TRUE(tensors_close_to_largest(scores, golden.tensor("outputs.scores." + std::to_string(step)), 1e-5));
    ids = scores.argmax(-1, /*keepdim=*/true);
    sequence = at::cat({sequence, ids}, 1);
  }
  EXPECT_TENSORS_EQUAL(sequence, golden.tensor("outputs.sequences"));
}

}  // namespace
}  // namespace transformers::testing
