#include <ATen/ATen.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/llama/modeling_llama.h>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

/// What a call for these positions turns by: its angles at position 1, all below half a turn.
at::Tensor frequencies_of(const LlamaRotaryEmbeddingImpl& rotary, const at::Tensor& position_ids) {
  const auto [cos, sin] = rotary.at_positions(at::zeros({1}), at::ones({1, 1}, at::kLong), position_ids);
  return at::atan2(sin, cos).flatten().slice(0, 0, rotary.inv_freq.numel());
}

TEST(RopeTest, FrequenciesAndAnglesOfEveryTypeEqualPython) {
  for (const auto& c : golden_cases("functions", "rope")) {
    if (c.name == "gptj") {
      continue;
    }
    SCOPED_TRACE(c.name);
    LlamaRotaryEmbedding rotary(LlamaConfig::from_json(c.arguments.at("config").dump()));
    const auto [cos, sin] = rotary(at::zeros({1}), c.tensor("position_ids"));
    EXPECT_TENSORS_CLOSE(frequencies_of(*rotary, c.tensor("position_ids")), c.tensor("inv_freq"),
                         {.relative = 1e-6, .absolute = 0});
    // An ulp of a frequency is worth 1e-3 at position 16384.
    EXPECT_TENSORS_CLOSE(cos, c.tensor("cos"), {.relative = 0, .absolute = 2e-3});
    EXPECT_TENSORS_CLOSE(sin, c.tensor("sin"), {.relative = 0, .absolute = 2e-3});
  }
}

TEST(RopeTest, GptjTableEqualsPython) {
  for (const auto& c : golden_cases("functions", "rope")) {
    if (c.name == "gptj") {
      const auto table = gptj::create_sinusoidal_positions(2048, c.get<int64_t>("rotary_dim"));
      EXPECT_TENSORS_CLOSE(table.index_select(0, c.tensor("positions")), c.tensor("table"),
                           {.relative = 0, .absolute = 2e-4});
    }
  }
}

TEST(RopeTest, RotationsPairHalvesOrNeighbours) {
  const auto tensor = at::tensor({1.0, 2.0, 3.0, 4.0});
  EXPECT_TENSORS_EQUAL(rotate_half(tensor), at::tensor({-3.0, -4.0, 1.0, 2.0}));
  EXPECT_TENSORS_EQUAL(rotate_every_two(tensor), at::tensor({-2.0, 1.0, -4.0, 3.0}));
}

LlamaConfig small_config() {
  LlamaConfig config;
  config.hidden_size = 32;
  config.num_attention_heads = 4;
  config.max_position_embeddings = 64;
  return config;
}

TEST(RopeTest, LlamaScoresDependOnDistanceOnly) {
  LlamaRotaryEmbedding rotary(small_config());
  const auto query = at::randn({1, 1, 1, 8}), key = at::randn({1, 1, 1, 8});
  const auto score = [&](int64_t query_position, int64_t key_position) {
    const auto at_position = [&](int64_t position) { return rotary(query, at::full({1, 1}, position, at::kLong)); };
    const auto q = llama::apply_rotary_pos_emb(query, key, at_position(query_position)).first;
    const auto k = llama::apply_rotary_pos_emb(query, key, at_position(key_position)).second;
    return (q * k).sum();
  };
  EXPECT_TENSORS_CLOSE(score(7, 3), score(40, 36), {.relative = 0, .absolute = 1e-4});
  EXPECT_FALSE(at::allclose(score(7, 3), score(7, 4), 1e-3, 1e-3));
}

TEST(RopeTest, GptjScoresDependOnDistanceOnly) {
  const auto table = gptj::create_sinusoidal_positions(64, 8);
  const auto query = at::randn({1, 1, 1, 8}), key = at::randn({1, 1, 1, 8});
  const auto rotated = [&](const at::Tensor& tensor, int64_t position) {
    const auto sincos = table[position].view({1, 1, -1}).chunk(2, -1);
    return gptj::apply_rotary_pos_emb(tensor, sincos[0], sincos[1]);
  };
  EXPECT_TENSORS_CLOSE((rotated(query, 7) * rotated(key, 3)).sum(), (rotated(query, 40) * rotated(key, 36)).sum(),
                       {.relative = 0, .absolute = 1e-4});
}

TEST(RopeTest, FrequenciesStayInFp32InEveryCast) {
  LlamaRotaryEmbedding rotary(small_config());
  rotary->to(at::kBFloat16);
  EXPECT_EQ(rotary->inv_freq.scalar_type(), at::kFloat);
  const auto [cos, sin] = rotary(at::zeros({1}, at::kBFloat16), at::arange(4).unsqueeze(0));
  EXPECT_EQ(cos.scalar_type(), at::kBFloat16);
  EXPECT_EQ(sin.sizes(), (at::IntArrayRef{1, 4, 8}));
}

TEST(RopeTest, DynamicStretchesByTheLengthOfTheCallAlone) {
  auto config = small_config();
  config.rope_parameters.rope_type = RopeType::kDynamic;
  config.rope_parameters.factor = 2.0;
  LlamaRotaryEmbedding rotary(config);
  const auto plain = frequencies_of(*rotary, at::zeros({1, 1}, at::kLong));
  const auto up_to = [&](int64_t length) {
    const auto positions = at::arange(length).unsqueeze(0);
    rotary(at::zeros({1}), positions);
    return frequencies_of(*rotary, positions);
  };
  EXPECT_TENSORS_EQUAL(up_to(64), plain);
  const auto stretched = up_to(100);
  EXPECT_FALSE(stretched.equal(plain));
  EXPECT_FALSE(up_to(70).equal(stretched));
  EXPECT_TENSORS_EQUAL(up_to(10), plain);
  EXPECT_TENSORS_EQUAL(up_to(100), stretched);
}

}  // namespace
}  // namespace transformers::testing
