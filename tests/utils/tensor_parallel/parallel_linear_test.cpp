#include <torch/torch.h>
#include <transformers/utils/tensor_parallel/parallel_linear.h>

#include "support/tensor_assertions.h"
#include "utils/distributed/rank_launcher.h"

namespace transformers {
namespace {

using testing::Rank;
using testing::run_on_ranks;
using testing::tensors_close_to_largest;

constexpr double kOfTheLargest = 1e-5;

at::Tensor random(at::IntArrayRef sizes, uint64_t seed) {
  return torch::randn(sizes, at::make_generator<at::CPUGeneratorImpl>(seed));
}

at::Tensor own(const at::Tensor& whole, const Rank& rank, int64_t dim) {
  const auto part = even_parts(whole.size(dim), rank.size)[static_cast<size_t>(rank.rank)];
  return whole.narrow(dim, part.start, part.length).clone();
}

TEST(ColwiseParallelTest, GivesTheRanksOutputFeaturesAndTheWholeGradientOfTheInput) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto weight = random({6, 4}, 1), bias = random({6}, 2), upstream = random({3, 6}, 4);
    const auto input = random({3, 4}, 3).requires_grad_(), same = input.detach().clone().requires_grad_();
    Linear layer(own(weight, rank, 0), own(bias, rank, 0));
    layer->set_method(std::make_shared<ColwiseParallel>(std::make_shared<SharedInput>(group, 1)));

    const auto whole = torch::linear(same, weight, bias);
    whole.backward(upstream);
    const auto part = layer(input);
    part.backward(own(upstream, rank, 1));
    EXPECT_TRUE(tensors_close_to_largest(part.detach(), own(whole.detach(), rank, 1), kOfTheLargest));
    EXPECT_TRUE(tensors_close_to_largest(input.grad(), same.grad(), kOfTheLargest));
    destroy_process_group();
  });
}

TEST(RowwiseParallelTest, AddsUpTheRanksProductsAndTheBiasOnce) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto weight = random({4, 6}, 1), bias = random({4}, 2), input = random({3, 6}, 3);
    Linear layer(own(weight, rank, 1), bias);
    layer->set_method(std::make_shared<RowwiseParallel>(group));
    const auto output = layer(own(input, rank, 1));
    EXPECT_TRUE(tensors_close_to_largest(output.detach(), torch::linear(input, weight, bias), kOfTheLargest));
    output.sum().backward();
    EXPECT_TENSORS_EQUAL(layer->bias.grad(), torch::full({4}, 3.0));
    destroy_process_group();
  });
}

TEST(SharedInputTest, MakesOneCopyForAllReadersOfATensor) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    SharedInput shared(group, 2);
    const auto input = torch::ones({2}, torch::requires_grad());
    const auto first = shared.copy(input);
    EXPECT_TRUE(shared.copy(input).is_same(first));
    EXPECT_FALSE(shared.copy(input).is_same(first));
    destroy_process_group();
  });
}

TEST(VocabularyParallelTest, EmbedsIdsOfEveryRankAndLeavesPaddingWithoutGradient) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto table = random({7, 3}, 1);
    Embedding whole(7, 3, 5), split(7, 3, 5);
    whole->set_weight(table.clone());
    split->set_weight(table.clone());
    make_vocabulary_parallel(split, group);
    EXPECT_EQ(split->weight.size(0), rank.rank == 0 ? 4 : 3);

    const auto ids = torch::tensor({{0, 3, 4}, {5, 6, 0}}, torch::kLong);
    EXPECT_TENSORS_EQUAL(split(ids).detach(), whole(ids).detach());
    split(ids).sum().backward();
    whole(ids).sum().backward();
    EXPECT_TENSORS_EQUAL(split->weight.grad(), own(whole->weight.grad(), rank, 0));
    destroy_process_group();
  });
}

TEST(VocabularyParallelTest, RefusesFewerTokensThanRanks) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    Embedding tiny(1, 3);
    EXPECT_ERROR(make_vocabulary_parallel(tiny, group), "a vocabulary of 1 tokens cannot be split over 2 ranks");
    destroy_process_group();
  });
}

struct LossCase {
  LinearCrossEntropyOptions options{};
  bool with_bias = false;
};

/// Value and gradients against torch's own steps in one process.
void expect_equal_loss(const LossCase& example, const Rank& rank, const ProcessGroup& group) {
  constexpr int64_t kTokens = 11;
  const auto weight = random({kTokens, 4}, 1).requires_grad_();
  const auto bias = example.with_bias ? random({kTokens}, 2).requires_grad_() : at::Tensor();
  const auto hidden = random({5, 4}, 3).requires_grad_(), same_hidden = hidden.detach().clone().requires_grad_();
  const auto labels = torch::tensor({0, 10, -100, 5, 6}, torch::kLong);
  const auto& options = example.options;

  const auto sum = at::cross_entropy_loss(torch::linear(hidden, weight, bias), labels, {}, at::Reduction::Sum, -100,
                                          options.label_smoothing);
  const auto expected = sum / options.num_items_in_batch.value_or(4);
  (expected * 2).backward();

  const auto own_weight = own(weight.detach(), rank, 0).requires_grad_();
  const auto own_bias = example.with_bias ? own(bias.detach(), rank, 0).requires_grad_() : at::Tensor();
  const auto loss =
      vocabulary_parallel_cross_entropy(same_hidden, own_weight, own_bias, labels, kTokens, group, options);
  (loss * 2).backward();
  EXPECT_TRUE(tensors_close_to_largest(loss.detach(), expected.detach(), kOfTheLargest));
  EXPECT_TRUE(tensors_close_to_largest(same_hidden.grad(), hidden.grad(), kOfTheLargest));
  EXPECT_TRUE(tensors_close_to_largest(own_weight.grad(), own(weight.grad(), rank, 0), kOfTheLargest));
  if (example.with_bias) {
    EXPECT_TRUE(tensors_close_to_largest(own_bias.grad(), own(bias.grad(), rank, 0), kOfTheLargest));
  }
}

TEST(VocabularyParallelTest, LossAndGradientsEqualThoseOfOneProcess) {
  run_on_ranks(3, [](const Rank& rank) {
    const auto group = rank.join();
    expect_equal_loss({}, rank, group);
    expect_equal_loss({.options = {.chunk_rows = 2}, .with_bias = true}, rank, group);
    expect_equal_loss({.options = {.chunk_rows = 3, .num_items_in_batch = 9, .label_smoothing = 0.1}}, rank, group);
    destroy_process_group();
  });
}

TEST(VocabularyParallelTest, LossStaysFiniteWhereAnExponentialWouldNot) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto weight = torch::tensor({{500.0F}, {-500.0F}, {0.0F}, {499.0F}});
    const auto loss = vocabulary_parallel_cross_entropy(torch::ones({1, 1}), own(weight, rank, 0), {},
                                                        torch::tensor({3}, torch::kLong), 4, group);
    // ln(1 + e) and terms beyond fp32's sight.
    EXPECT_NEAR(loss.item<double>(), 1.3132616875, 1e-6);
    destroy_process_group();
  });
}

TEST(VocabularyParallelTest, RefusesLabelsOutsideTheVocabulary) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto labels = torch::tensor({1, 4}, torch::kLong);
    EXPECT_ERROR(vocabulary_parallel_cross_entropy(torch::ones({2, 1}), torch::ones({2, 1}), {}, labels, 4, group),
                 "labels must be -100 or in [0, 4), got values from 1 to 4");
    destroy_process_group();
  });
}

}  // namespace
}  // namespace transformers
