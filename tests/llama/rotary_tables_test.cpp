#include <ATen/ATen.h>
#include <transformers/llama/rotary_tables.h>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

template <typename Rotary>
void expect_tables(const GoldenCase& c, Rotary rotary) {
  const auto [cos, sin] = rotary->forward(at::zeros({1}), c.get<int64_t>("seq_len"));
  EXPECT_TENSORS_CLOSE(cos, c.tensor("cos"));
  EXPECT_TENSORS_CLOSE(sin, c.tensor("sin"));
}

TEST(RotaryTablesTest, EveryClassEqualsPython) {
  for (const auto& c : golden_cases("legacy", "rotary_classes")) {
    if (!c.has("seq_len")) {
      continue;
    }
    SCOPED_TRACE(c.name);
    const auto dim = c.get<int64_t>("dim"), maximum = c.get<int64_t>("max_position_embeddings");
    const auto base = c.get<double>("base");
    if (c.name.starts_with("LlamaLinear")) {
      expect_tables(
          c, LlamaLinearScalingRotaryEmbedding(dim, maximum, base, torch::kCPU, c.get<double>("scaling_factor")));
    } else if (c.name.starts_with("LlamaDynamic")) {
      expect_tables(
          c, LlamaDynamicNTKScalingRotaryEmbedding(dim, maximum, base, torch::kCPU, c.get<double>("scaling_factor")));
    } else {
      expect_tables(c, LlamaRotaryTable(dim, maximum, base));
    }
  }
}

TEST(RotaryTablesTest, RotationPicksRowsByPosition) {
  for (const auto& c : golden_cases("legacy", "rotary_classes")) {
    if (c.has("unsqueeze_dim")) {
      SCOPED_TRACE(c.name);
      const auto [query, key] =
          llama::apply_rotary_pos_emb(c.tensor("q"), c.tensor("k"), {.cos = c.tensor("cos"), .sin = c.tensor("sin")},
                                      c.tensor("position_ids"), c.get<int64_t>("unsqueeze_dim"));
      EXPECT_TENSORS_CLOSE(query, c.tensor("rotated_q"));
      EXPECT_TENSORS_CLOSE(key, c.tensor("rotated_k"));
    }
  }
}

TEST(RotaryTablesTest, TablesGrowAndStayInFp32) {
  LlamaRotaryTable rotary(8, 16);
  rotary->to(at::kHalf);
  EXPECT_EQ(rotary->cos_cached.scalar_type(), at::kFloat);
  EXPECT_EQ(rotary->forward(at::zeros({1}, at::kHalf), 20).cos.scalar_type(), at::kHalf);
  EXPECT_EQ(rotary->max_seq_len_cached, 20);
  EXPECT_EQ(rotary->forward(at::zeros({1}), 3).cos.sizes(), (at::IntArrayRef{3, 8}));
  EXPECT_EQ(rotary->max_seq_len_cached, 20);
}

TEST(RotaryTablesTest, RefusesSizesThatMakeNoTable) {
  EXPECT_ERROR(LlamaRotaryTable(7, 16), "even", "7");
  EXPECT_ERROR(LlamaRotaryTable(8, 0), "max_position_embeddings", "got 0");
  EXPECT_ERROR(LlamaLinearScalingRotaryEmbedding(8, 16, 10000, torch::kCPU, -1.0), "factor", "above 0");
  EXPECT_ERROR(LlamaRotaryTable(8, 16)->forward(at::zeros({1}), 0), "seq_len", "got 0");
}

}  // namespace
}  // namespace transformers::testing
