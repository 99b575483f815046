#include <torch/torch.h>
#include <transformers/utils/distributed/module_sync.h>
#include <transformers/utils/nn/module.h>

#include "support/tensor_assertions.h"
#include "utils/distributed/rank_launcher.h"

namespace transformers {
namespace {

using testing::Rank;
using testing::run_on_ranks;

constexpr int64_t kBucket = 1024;

/// One of each: parameter, tied parameter, buffer, non-persistent buffer, child.
struct NetImpl : Module {
  explicit NetImpl(double value) {
    weight = register_parameter("weight", torch::full({3, 2}, value));
    register_parameter("tied", weight);
    counts = register_buffer("counts", torch::full({2}, value, torch::kLong));
    table = register_non_persistent_buffer("table", torch::full({2}, value));
    child = register_module("child", torch::nn::Linear(2, 2));
    const torch::NoGradGuard no_grad;
    child->weight.fill_(value);
    child->bias.fill_(value);
  }
  torch::Tensor weight, counts, table;
  torch::nn::Linear child{nullptr};
};
TRANSFORMERS_MODULE(Net);

bool all_are(const torch::Tensor& tensor, double value) { return (tensor == value).all().item<bool>(); }

/// Each rank verifies its own list; every rank must get the error, and be able to go on.
void expect_refused(const std::function<std::vector<at::Tensor>(int64_t rank)>& tensors,
                    std::initializer_list<std::string_view> fragments) {
  run_on_ranks(4, [&](const Rank& rank) {
    const auto group = rank.join();
    const auto own = "rank " + std::to_string(rank.rank) + " of 4";
    EXPECT_ERROR(verify_param_shape_across_processes(group, tensors(rank.rank)), own);
    EXPECT_TRUE(
        testing::throws_error([&] { verify_param_shape_across_processes(group, tensors(rank.rank)); }, fragments));
    group.barrier();
    destroy_process_group();
  });
}

TEST(VerifyParamShapeTest, PassesWhenAllAgree) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    verify_param_shape_across_processes(
        group, {torch::full({2, 3}, rank.rank), torch::ones({0}), torch::ones({}), torch::ones({2}, at::kBFloat16)});
    destroy_process_group();
  });
}

TEST(VerifyParamShapeTest, RefusesAShapeOnEveryRank) {
  expect_refused(
      [](int64_t rank) {
        return std::vector{torch::ones({2}), torch::ones({rank == 2 ? 4 : 3})};
      },
      {"tensor 1 is Float [4]", "on rank 2", "Float [3]", "on rank 0"});
}

TEST(VerifyParamShapeTest, RefusesADifferenceOfTheFirstRank) {
  expect_refused([](int64_t rank) { return std::vector{torch::ones({rank == 0 ? 4 : 3})}; },
                 {"tensor 0 is Float [3]", "on rank 1", "Float [4]"});
}

TEST(VerifyParamShapeTest, RefusesACount) {
  expect_refused([](int64_t rank) { return std::vector<at::Tensor>(rank == 3 ? 1 : 2, torch::ones({2})); },
                 {"1 tensors on rank 3", "2 on rank 0"});
}

TEST(VerifyParamShapeTest, RefusesADtype) {
  expect_refused([](int64_t rank) { return std::vector{torch::ones({2}, rank == 1 ? at::kHalf : at::kFloat)}; },
                 {"Half [2]", "rank 1", "Float [2]"});
}

TEST(VerifyParamShapeTest, RefusesStrides) {
  expect_refused(
      [](int64_t rank) {
        return std::vector{rank == 1 ? torch::ones({2, 2}).t() : torch::ones({2, 2})};
      },
      {"strides [1, 2]", "rank 1", "strides [2, 1]"});
}

TEST(VerifyParamShapeTest, RefusesAnEmptyListOnOneRank) {
  expect_refused([](int64_t rank) { return std::vector<at::Tensor>(rank == 1 ? 0 : 2, torch::ones({2})); },
                 {"0 tensors on rank 1", "2 on rank 0"});
}

TEST(VerifyParamShapeTest, RefusesAnEmptyListOnTheFirstRank) {
  expect_refused([](int64_t rank) { return std::vector<at::Tensor>(rank == 0 ? 0 : 2, torch::ones({2})); },
                 {"no tensors to verify on rank 0"});
}

TEST(VerifyParamShapeTest, RefusesEmptyListsEverywhere) {
  expect_refused([](int64_t) { return std::vector<at::Tensor>(); }, {"no tensors to verify"});
}

TEST(VerifyParamShapeTest, RefusesAnUndefinedTensor) {
  expect_refused([](int64_t) { return std::vector<at::Tensor>(1); }, {"tensor 0 is undefined"});
}

TEST(VerifyParamShapeTest, NamesTheTensor) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    EXPECT_ERROR(verify_param_shape_across_processes(group, {torch::ones({rank.rank + 1})}, {"lm_head.weight"}),
                 "lm_head.weight");
    destroy_process_group();
  });
}

TEST(VerifyParamShapeTest, EndsWhenARankDies) {
  run_on_ranks(2,
               [](const Rank& rank) {
                 const auto group = rank.join();
                 if (rank.rank == 1) {
                   std::_Exit(9);
                 }
                 EXPECT_ERROR(verify_param_shape_across_processes(group, {torch::ones({2})}), "rank 0 of 2");
               },
               {.expected_status = {{1, 9}}});
}

TEST(SyncModuleStatesTest, TakesEverythingFromTheSource) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const Net net(rank.rank + 1.0);
    sync_module_states(*net, group, kBucket, /*src=*/1);
    EXPECT_TRUE(all_are(net->weight, 2));
    EXPECT_TRUE(all_are(net->counts, 2));
    EXPECT_TRUE(all_are(net->table, 2));
    EXPECT_TRUE(all_are(net->child->weight, 2));
    EXPECT_TRUE(net->weight.requires_grad());
    destroy_process_group();
  });
}

TEST(SyncModuleStatesTest, LeavesIgnoredNamesAndBuffersAlone) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto own = rank.rank + 1.0;
    const Net net(own);
    sync_module_states(*net, group, kBucket, 0, {"child.weight", "counts"});
    EXPECT_TRUE(all_are(net->child->weight, own));
    EXPECT_TRUE(all_are(net->counts, own));
    EXPECT_TRUE(all_are(net->child->bias, 1));
    const Net other(own);
    sync_module_states(*other, group, kBucket, 0, {}, /*broadcast_buffers=*/false);
    EXPECT_TRUE(all_are(other->counts, own));
    EXPECT_TRUE(all_are(other->table, own));
    EXPECT_TRUE(all_are(other->weight, 1));
    destroy_process_group();
  });
}

TEST(SyncParamsAndBuffersTest, DoesNothingForAnEmptyList) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    if (rank.rank == 0) {
      sync_params_and_buffers(group, {}, kBucket, 0);  // no other rank comes
    }
    destroy_process_group();
  });
}

TEST(SyncParamsAndBuffersTest, EndsWhenTheSourceDies) {
  run_on_ranks(2,
               [](const Rank& rank) {
                 const auto group = rank.join();
                 if (rank.rank == 0) {
                   std::_Exit(9);
                 }
                 EXPECT_ERROR(sync_params_and_buffers(group, {torch::ones({2})}, kBucket, 0), "rank 1 of 2");
               },
               {.expected_status = {{0, 9}}});
}

StateDict named(std::initializer_list<std::pair<const char*, int>> entries) {
  StateDict state;
  for (const auto& [name, value] : entries) {
    state.insert(name, torch::tensor(value));
  }
  return state;
}

TEST(ReplaceByPrefixTest, RenamesKeysThatBeginWithThePrefix) {
  auto state = named({{"layer.a", 1}, {"abc.layer.def", 2}, {"layer.b", 3}});
  replace_by_prefix(state, "layer.", "module.layer.");
  EXPECT_EQ(state.keys(), (std::vector<std::string>{"module.layer.a", "abc.layer.def", "module.layer.b"}));
  EXPECT_EQ(state["module.layer.b"].item<int>(), 3);
  replace_by_prefix(state, "module.layer.", "layer.");
  EXPECT_EQ(state.keys(), (std::vector<std::string>{"layer.a", "abc.layer.def", "layer.b"}));
}

TEST(ReplaceByPrefixTest, RenamesAllAtOnce) {
  auto state = named({{"a.x", 1}, {"a.a.x", 2}});
  replace_by_prefix(state, "a.", "a.a.");
  EXPECT_EQ(state["a.a.x"].item<int>(), 1);
  EXPECT_EQ(state["a.a.a.x"].item<int>(), 2);
}

TEST(ReplaceByPrefixTest, TakesEmptyPrefixes) {
  auto state = named({{"x", 1}});
  replace_by_prefix(state, "", "module.");
  EXPECT_TRUE(state.contains("module.x"));
  replace_by_prefix(state, "module.", "");
  EXPECT_TRUE(state.contains("x"));
}

TEST(ReplaceByPrefixTest, RefusesEqualPrefixesAndNamesThatAreThere) {
  auto state = named({{"a.x", 1}, {"b.x", 2}});
  EXPECT_ERROR(replace_by_prefix(state, "a.", "a."), "must differ", "'a.'");
  EXPECT_ERROR(replace_by_prefix(state, "a.", "b."), "'b.x' twice");
  EXPECT_EQ(state["a.x"].item<int>(), 1);
}

TEST(GetRootModulesTest, KeepsThoseInsideNoOther) {
  const Net outer(1);
  const auto inner = outer->child.ptr();
  const auto apart = std::make_shared<torch::nn::LinearImpl>(2, 2);
  using Modules = std::vector<std::shared_ptr<torch::nn::Module>>;
  EXPECT_EQ(get_root_modules({inner, outer.ptr(), apart}), (Modules{outer.ptr(), apart}));
  EXPECT_TRUE(get_root_modules({}).empty());
  EXPECT_EQ(get_root_modules({inner}).size(), 1u);
}

}  // namespace
}  // namespace transformers
