#include <transformers/utils/nn/construction.h>
#include <transformers/utils/nn/embedding.h>
#include <transformers/utils/nn/layer_norm.h>
#include <transformers/utils/nn/linear.h>
#include <transformers/utils/nn/module.h>
#include <transformers/utils/nn/state_dict.h>

#include "support/tensor_assertions.h"

namespace transformers {
namespace {

class SampleImpl : public Module {
 public:
  SampleImpl() {
    projection = register_module("projection", Linear(3, 2));
    norm = register_module("norm", LayerNorm(2, 1e-5));
    register_buffer("count", torch::tensor(int64_t{299}));
    register_buffer("scale", torch::tensor({1.5F}));
    table = register_non_persistent_buffer("table", torch::tensor({0.1F, 0.2F}));
  }
  torch::Tensor forward(const torch::Tensor& input) { return norm(projection(input)); }

  Linear projection{nullptr};
  LayerNorm norm{nullptr};
  torch::Tensor table;
};
TRANSFORMERS_MODULE(Sample);

TEST(ModuleTest, CastingTouchesFloatingTensorsOnly) {
  Sample module;
  module->to(torch::kBFloat16);
  EXPECT_EQ(module->projection->weight.scalar_type(), torch::kBFloat16);
  EXPECT_EQ(module->named_buffers()["scale"].scalar_type(), torch::kBFloat16);
  EXPECT_EQ(module->named_buffers()["count"].item<int64_t>(), 299);
}

TEST(ModuleTest, NonPersistentBuffersKeepTheirDtypeAndStayOutOfTheStateDict) {
  Sample module;
  module->to(torch::kHalf);
  EXPECT_EQ(module->table.scalar_type(), torch::kFloat);
  EXPECT_FALSE(state_dict(*module).contains("table"));
  EXPECT_EQ(module->non_persistent_buffers().front().second.unsafeGetTensorImpl(), module->table.unsafeGetTensorImpl());
}

TEST(ModuleTest, CastingCastsGradientsToo) {
  Linear layer(3, 2);
  layer(torch::ones({1, 3})).sum().backward();
  Sample module;
  module(torch::randn({4, 3})).sum().backward();
  const auto gradient = module->norm->bias.grad().clone();
  module->to(torch::kDouble);
  EXPECT_TENSORS_EQUAL(module->norm->bias.grad(), gradient);
}

TEST(ModuleTest, HooksSeeAndReplaceWhatFlowsThroughTheHolder) {
  Linear layer(2, 2, /*bias=*/false);
  const auto input = torch::ones({1, 2});
  const auto plain = layer(input);
  const auto pre = layer->register_forward_pre_hook([](const at::Tensor& x) { return x * 2; });
  const auto post = layer->register_forward_hook([](const at::Tensor& x, const at::Tensor& y) { return x.sum() + y; });
  EXPECT_TENSORS_CLOSE(layer(input), plain * 2 + 4);
  EXPECT_TENSORS_EQUAL(layer->forward(input), plain);
  layer->remove_forward_hook(pre);
  layer->remove_forward_hook(post);
  EXPECT_TENSORS_EQUAL(layer(input), plain);
}

TEST(ModuleTest, ConstructionFollowsTheGuard) {
  const ConstructionGuard guard({.dtype = torch::kBFloat16, .device = torch::kMeta});
  Sample module;
  EXPECT_TRUE(module->projection->weight.is_meta());
  EXPECT_EQ(module->projection->weight.scalar_type(), torch::kBFloat16);
  EXPECT_EQ(module->norm->weight.scalar_type(), torch::kBFloat16);
  EXPECT_FALSE(module->table.is_meta());
}

TEST(ModuleTest, EmbeddingPaddingRowStartsAtZeroAndGetsNoGradient) {
  Embedding table(5, 3, 1);
  EXPECT_TENSORS_EQUAL(table->weight[1].detach(), torch::zeros({3}));
  table(torch::tensor({0, 1, 1})).sum().backward();
  EXPECT_TENSORS_EQUAL(table->weight.grad()[1], torch::zeros({3}));
  EXPECT_ERROR(Embedding(5, 3, 5), "padding_idx", "5");
}

}  // namespace
}  // namespace transformers
