#include <torch/torch.h>
#include <transformers/utils/tensor_parallel/collectives.h>

#include "support/tensor_assertions.h"
#include "utils/distributed/rank_launcher.h"

namespace transformers {
namespace {

using testing::Rank;
using testing::run_on_ranks;

at::Tensor leaf(const at::Tensor& values) { return values.clone().requires_grad_(); }

TEST(EvenPartsTest, GivesTheFirstRanksOneMore) {
  const auto parts = even_parts(11, 4);
  ASSERT_EQ(parts.size(), 4U);
  const std::vector<std::pair<int64_t, int64_t>> expected{{0, 3}, {3, 3}, {6, 3}, {9, 2}};
  for (size_t i = 0; i < parts.size(); ++i) {
    EXPECT_EQ(parts[i].start, expected[i].first);
    EXPECT_EQ(parts[i].length, expected[i].second);
  }
}

TEST(EvenPartsTest, RefusesToSplitOverNoRanks) {
  EXPECT_ERROR(even_parts(3, 0), "cannot split 3 entries over 0 ranks");
}

TEST(CollectivesTest, CopyKeepsTheInputAndAddsUpItsGradients) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto input = leaf(torch::tensor({1.0F, 2.0F}));
    const auto copied = copy_to_group(input, group);
    EXPECT_TENSORS_EQUAL(copied.detach(), input.detach());
    (copied * static_cast<double>(rank.rank + 1)).sum().backward();
    EXPECT_TENSORS_EQUAL(input.grad(), torch::tensor({3.0F, 3.0F}));
    destroy_process_group();
  });
}

TEST(CollectivesTest, ReduceAddsUpTheInputsAndHandsTheGradientThrough) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto input = leaf(torch::full({2}, rank.rank + 1.0));
    const auto sum = reduce_from_group(input, group);
    EXPECT_TENSORS_EQUAL(sum.detach(), torch::full({2}, 3.0));
    EXPECT_TENSORS_EQUAL(input.detach(), torch::full({2}, rank.rank + 1.0));
    (sum * torch::tensor({5.0, 7.0})).sum().backward();
    EXPECT_TENSORS_EQUAL(input.grad(), torch::tensor({5.0F, 7.0F}));
    destroy_process_group();
  });
}

TEST(CollectivesTest, GatherPutsPartsOfDifferentLengthSideBySide) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto whole = torch::arange(10, torch::kFloat).view({2, 5});
    const auto start = rank.rank == 0 ? 0 : 3, length = rank.rank == 0 ? 3 : 2;
    const auto input = leaf(whole.narrow(1, start, length));
    const auto gathered = gather_from_group(input, 5, group);
    EXPECT_TENSORS_EQUAL(gathered.detach(), whole);
    (gathered * whole).sum().backward();
    EXPECT_TENSORS_EQUAL(input.grad(), whole.narrow(1, start, length).contiguous());
    EXPECT_ERROR(gather_from_group(input, 7, group), "gather_from_group: rank", "of 7 entries");
    destroy_process_group();
  });
}

TEST(CollectivesTest, SharedRowsGetTheGradientsOfAllRanksThatHoldThem) {
  run_on_ranks(4, [](const Rank& rank) {
    const auto group = rank.join();
    const std::vector<Part> parts{{0, 1}, {0, 1}, {1, 1}, {1, 1}};
    const auto row = leaf(torch::ones({1, 2}));
    (share_rows(row, parts, group) * static_cast<double>(rank.rank + 1)).sum().backward();
    EXPECT_TENSORS_EQUAL(row.grad(), torch::full({1, 2}, rank.rank < 2 ? 3.0 : 7.0));
    EXPECT_ERROR(share_rows(torch::ones({2, 2}), parts, group), "share_rows: rank", "has 1 rows, got [2, 2]");
    EXPECT_ERROR(share_rows(row, {{0, 1}}, group), "one part for each of 4 ranks, got 1");
    destroy_process_group();
  });
}

TEST(CollectivesTest, WithoutGradientsNothingIsRecorded) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto input = leaf(torch::ones({2}));
    const torch::NoGradGuard no_grad;
    EXPECT_TRUE(copy_to_group(input, group).is_same(input));
    EXPECT_FALSE(reduce_from_group(input, group).requires_grad());
    destroy_process_group();
  });
}

}  // namespace
}  // namespace transformers
