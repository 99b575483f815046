#include <ATen/ATen.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/sequential.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/nn/layer_norm.h>
#include <transformers/utils/pytorch_utils.h>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"

namespace transformers {
namespace {

using testing::golden_cases;
using testing::GoldenCase;

std::vector<GoldenCase> cases_of(const std::string& prefix) {
  std::vector<GoldenCase> cases;
  for (auto& golden : golden_cases("legacy", "pytorch_utils")) {
    if (golden.name.starts_with(prefix)) {
      cases.push_back(std::move(golden));
    }
  }
  EXPECT_FALSE(cases.empty()) << prefix;
  return cases;
}

void expect_pruned(const at::Tensor& weight, const at::Tensor& bias, const GoldenCase& golden) {
  EXPECT_TENSORS_EQUAL(weight.detach(), golden.tensor("pruned_weight"));
  EXPECT_EQ(bias.defined(), golden.tensor("pruned_bias").defined());
  if (bias.defined()) {
    EXPECT_TENSORS_EQUAL(bias.detach(), golden.tensor("pruned_bias"));
    EXPECT_TRUE(bias.requires_grad());
  }
  EXPECT_TRUE(weight.requires_grad());
}

TEST(PruneLinearLayerTest, KeepsWhatPythonKeepsOnOurLinearAndOnTorchs) {
  for (const auto& golden : cases_of("linear_")) {
    SCOPED_TRACE(golden.name);
    const auto index = golden.tensor("index");
    const Linear layer(golden.tensor("weight"), golden.tensor("bias"));
    if (const auto dim = golden.optional<int64_t>("dim")) {
      const auto smaller = prune_linear_layer(layer, index, *dim);
      expect_pruned(smaller->weight, smaller->bias, golden);
      torch::nn::Linear plain(torch::nn::LinearOptions(5, 6).bias(golden.tensor("bias").defined()));
      plain->weight.set_data(golden.tensor("weight"));
      if (plain->bias.defined()) {
        plain->bias.set_data(golden.tensor("bias"));
      }
      const auto smaller_plain = prune_linear_layer(plain, index, *dim);
      expect_pruned(smaller_plain->weight, smaller_plain->bias, golden);
    } else {
      const auto smaller = std::dynamic_pointer_cast<LinearImpl>(prune_layer(*layer, index));
      ASSERT_NE(smaller, nullptr);
      expect_pruned(smaller->weight, smaller->bias, golden);
    }
  }
}

TEST(PruneLinearLayerTest, KeepsTheDtypeAndOwnsItsMemory) {
  const Linear layer(at::ones({3, 2}, at::kBFloat16), at::ones({3}, at::kBFloat16));
  const auto same = prune_linear_layer(layer, at::arange(3));
  EXPECT_EQ(same->weight.scalar_type(), at::kBFloat16);
  EXPECT_NE(same->weight.data_ptr(), layer->weight.data_ptr());
  const auto columns = prune_linear_layer(layer, at::tensor({1}), 1);
  EXPECT_NE(columns->bias.data_ptr(), layer->bias.data_ptr());
}

TEST(PruneLinearLayerTest, KeepsTheDtypeOfTorchsLinearToo) {
  torch::nn::Linear plain(2, 3);
  plain->to(at::kBFloat16);
  const auto rows = prune_linear_layer(plain, at::tensor({2, 0}));
  EXPECT_TENSORS_EQUAL(rows->weight.detach(), plain->weight.detach().index_select(0, at::tensor({2, 0})));
  EXPECT_EQ(rows->bias.scalar_type(), at::kBFloat16);
  EXPECT_EQ(rows->options.out_features(), 2);
  const auto columns = std::dynamic_pointer_cast<torch::nn::LinearImpl>(prune_layer(*plain, at::tensor({1}), 1));
  ASSERT_NE(columns, nullptr);
  EXPECT_TENSORS_EQUAL(columns->weight.detach(), plain->weight.detach().narrow(1, 1, 1));
  EXPECT_TENSORS_EQUAL(columns->bias.detach(), plain->bias.detach());
}

// out = x · Wᵀ + b of the rows that stay: ∂W = gᵀ · x, ∂x = g · W, ∂b = Σ g.
TEST(PruneLinearLayerTest, PassesGradientsToTheSmallerLayerAlone) {
  torch::manual_seed(3);
  const Linear layer(4, 5);
  const auto smaller = prune_linear_layer(layer, at::tensor({3, 1}));
  const auto x = at::randn({6, 4}).requires_grad_();
  const auto gradient = at::randn({6, 2});
  smaller(x).backward(gradient);
  EXPECT_TENSORS_CLOSE(smaller->weight.grad(), gradient.t().mm(x.detach()));
  EXPECT_TENSORS_CLOSE(smaller->bias.grad(), gradient.sum(0));
  EXPECT_TENSORS_CLOSE(x.grad(), gradient.mm(layer->weight.detach().index_select(0, at::tensor({3, 1}))));
  EXPECT_FALSE(layer->weight.grad().defined());
}

TEST(PruneLinearLayerTest, RefusesABadIndexOrDim) {
  const Linear layer(5, 6);
  EXPECT_ERROR(prune_linear_layer(layer, at::tensor({0, 6})), "[0, 6)", "6");
  EXPECT_ERROR(prune_linear_layer(layer, at::tensor({-1})), "[0, 6)", "-1");
  EXPECT_ERROR(prune_linear_layer(layer, at::tensor({1, 1})), "twice");
  EXPECT_ERROR(prune_linear_layer(layer, at::empty({0}, at::kLong)), "empty");
  EXPECT_ERROR(prune_linear_layer(layer, at::tensor({0.5})), "integers");
  EXPECT_ERROR(prune_linear_layer(layer, at::tensor({0}), 2), "dim 0 or 1", "2");
  EXPECT_ERROR(prune_layer(LayerNormImpl(3, 1e-5), at::tensor({0})), "LayerNorm");
}

TEST(Conv1DTest, EqualsPythonAndPassesGradients) {
  for (const auto& golden : cases_of("conv1d")) {
    SCOPED_TRACE(golden.name);
    Conv1D layer(6, 5);
    layer->set_parameters(golden.tensor("weight"), golden.tensor("bias"));
    if (golden.name == "conv1d") {
      const auto output = layer(golden.tensor("x"));
      EXPECT_TENSORS_CLOSE(output.detach(), golden.tensor("output"));
      output.sum().backward();
      EXPECT_TENSORS_CLOSE(layer->bias.grad(), at::full({6}, 6.0));
    } else if (const auto dim = golden.optional<int64_t>("dim")) {
      const auto smaller = prune_conv1d_layer(layer, golden.tensor("index"), *dim);
      expect_pruned(smaller->weight, smaller->bias, golden);
      EXPECT_EQ(smaller(at::ones({2, smaller->weight.size(0)})).size(-1), smaller->weight.size(1));
    } else {
      const auto smaller = std::dynamic_pointer_cast<Conv1DImpl>(prune_layer(*layer, golden.tensor("index")));
      ASSERT_NE(smaller, nullptr);
      expect_pruned(smaller->weight, smaller->bias, golden);
    }
  }
}

// out = x · W + b: ∂x = g · Wᵀ, ∂W = xᵀ · g, both over all positions.
TEST(Conv1DTest, PassesGradientsToInputAndWeight) {
  torch::manual_seed(3);
  Conv1D layer(3, 4);
  const auto x = at::randn({2, 5, 4}).requires_grad_();
  const auto gradient = at::randn({2, 5, 3});
  layer(x).backward(gradient);
  EXPECT_TENSORS_CLOSE(x.grad(), gradient.matmul(layer->weight.detach().t()));
  EXPECT_TENSORS_CLOSE(layer->weight.grad(), x.detach().view({10, 4}).t().mm(gradient.view({10, 3})));
}

TEST(Conv1DTest, RefusesABadIndexOrDim) {
  const Conv1D layer(6, 5);
  EXPECT_ERROR(prune_conv1d_layer(layer, at::tensor({6})), "[0, 6)", "6");
  EXPECT_ERROR(prune_conv1d_layer(layer, at::tensor({5}), 0), "[0, 5)", "5");
  EXPECT_ERROR(prune_conv1d_layer(layer, at::tensor({-1})), "[0, 6)", "-1");
  EXPECT_ERROR(prune_conv1d_layer(layer, at::tensor({1, 1})), "twice");
  EXPECT_ERROR(prune_conv1d_layer(layer, at::empty({0}, at::kLong)), "empty");
  EXPECT_ERROR(prune_conv1d_layer(layer, at::tensor({0}), 2), "dim 0 or 1", "2");
  EXPECT_ERROR(prune_layer(*layer, at::tensor({0}), -1), "dim 0 or 1", "-1");
}

TEST(FindPruneableHeadsTest, EqualsPython) {
  for (const auto& golden : cases_of("heads_")) {
    SCOPED_TRACE(golden.name);
    const auto [left, index] = find_pruneable_heads_and_indices(
        golden.get<std::vector<int64_t>>("heads"), golden.get<int64_t>("n_heads"), golden.get<int64_t>("head_size"),
        golden.get<std::set<int64_t>>("already_pruned_heads"));
    EXPECT_EQ(left, golden.get<std::set<int64_t>>("found"));
    EXPECT_TENSORS_EQUAL(index, golden.tensor("index"));
  }
  EXPECT_ERROR(find_pruneable_heads_and_indices({4}, 4, 2, {}), "head 4", "4 heads");
  EXPECT_ERROR(find_pruneable_heads_and_indices({-1}, 4, 2, {}), "head -1", "4 heads");
  EXPECT_ERROR(find_pruneable_heads_and_indices({0}, 0, 2, {}), "above 0", "got 0 and 2");
  EXPECT_ERROR(find_pruneable_heads_and_indices({0}, 4, -2, {}), "above 0", "got 4 and -2");
}

TEST(ApplyChunkingTest, EqualsPythonForEveryChunkSize) {
  const auto forward = [](const at::Tensor& x, const at::Tensor& y) { return x * y + x.mean(1, /*keepdim=*/true); };
  for (const auto& golden : cases_of("chunks_")) {
    SCOPED_TRACE(golden.name);
    EXPECT_TENSORS_CLOSE(apply_chunking_to_forward(forward, golden.get<int64_t>("chunk_size"), 1, golden.tensor("x"),
                                                   golden.tensor("y")),
                         golden.tensor("output"));
  }
}

TEST(ApplyChunkingTest, PassesGradientsAndRefusesBadSizes) {
  const auto x = at::ones({2, 4}).requires_grad_();
  const auto square = [](const at::Tensor& t) { return t * t; };
  apply_chunking_to_forward(square, 2, 1, x).sum().backward();
  EXPECT_TENSORS_CLOSE(x.grad(), at::full({2, 4}, 2.0));
  EXPECT_ERROR(apply_chunking_to_forward(square, 3, 1, x), "multiple of the chunk size 3");
  const auto add = [](const at::Tensor& a, const at::Tensor& b) { return a + b; };
  EXPECT_ERROR(apply_chunking_to_forward(add, 2, 1, x, at::ones({2, 2})), "4 elements along dim 1", "2");
  EXPECT_ERROR(
      apply_chunking_to_forward([](const std::vector<at::Tensor>& t) { return t[0]; }, 2, 1, std::vector<at::Tensor>{}),
      "at least one tensor");
}

template <typename Forward, typename... Tensors>
constexpr bool takes = requires(Forward forward, Tensors... tensors) {
  apply_chunking_to_forward(forward, 2, 1, tensors...);
};

TEST(ApplyChunkingTest, TakesAsManyTensorsAsTheFunction) {
  const auto mix = [](const at::Tensor& a, const at::Tensor& b, const at::Tensor& c) { return a * b + c; };
  using Mix = decltype(mix);
  using at::Tensor;
  static_assert(takes<Mix, Tensor, Tensor, Tensor>);
  static_assert(!takes<Mix, Tensor, Tensor> && !takes<Mix, Tensor, Tensor, Tensor, Tensor> && !takes<Mix>);
  static_assert(!takes<Mix, Tensor, Tensor, const char*>);
  const auto no_tensor = [](const Tensor& a) { return a.dim(); };
  static_assert(!takes<decltype(no_tensor), Tensor>);
  const auto a = at::rand({2, 4}), b = at::rand({2, 4}), c = at::rand({2, 4});
  EXPECT_TENSORS_EQUAL(apply_chunking_to_forward(mix, 2, 1, a, b, c), a * b + c);
}

TEST(SoftmaxBackwardDataTest, UsesTheParentsDimAndTheDtypeAskedFor) {
  struct Parent {
    int64_t dim;
  };
  for (const auto& golden : cases_of("softmax_backward")) {
    const Parent parent{golden.get<int64_t>("parent_dim")};
    const auto output = golden.tensor("output");
    EXPECT_TENSORS_CLOSE(softmax_backward_data(parent, golden.tensor("grad_output"), output), golden.tensor("result"));
    EXPECT_TENSORS_CLOSE(softmax_backward_data(parent, golden.tensor("grad_output"), output, 0, output),
                         golden.tensor("result"));
  }
}

TEST(SoftmaxBackwardDataTest, IsTheGradientThatAutogradFinds) {
  struct Parent {
    int64_t dim;
  };
  torch::manual_seed(3);
  for (const int64_t dim : {0, 1, -1}) {
    const auto scores = at::randn({3, 4, 5}).requires_grad_();
    const auto output = at::softmax(scores, dim);
    const auto gradient = at::randn({3, 4, 5});
    output.backward(gradient);
    EXPECT_TENSORS_CLOSE(softmax_backward_data(Parent{dim}, gradient, output.detach()), scores.grad());
    EXPECT_TENSORS_CLOSE(softmax_backward_data(Parent{dim}, gradient, output.detach(), 7 - dim, scores.detach()),
                         scores.grad());
  }
}

TEST(SoftmaxBackwardDataTest, TakesLibTorchsOwnLayerForTheParent) {
  struct Parent {
    int64_t dim;
  };
  const torch::nn::Softmax layer(torch::nn::SoftmaxOptions(1));
  const auto gradient = torch::rand({2, 3}), output = torch::softmax(torch::rand({2, 3}), 1);
  const auto expected = softmax_backward_data(Parent{1}, gradient, output);
  EXPECT_TENSORS_EQUAL(softmax_backward_data(layer, gradient, output), expected);
  EXPECT_TENSORS_EQUAL(softmax_backward_data(*layer, gradient, output, 0, output), expected);
}

TEST(SoftmaxBackwardDataTest, ADtypeOfSelfDoesWhatItDoesInPython) {
  struct Parent {
    int64_t dim;
  };
  const auto output = at::softmax(at::arange(6, at::kFloat).view({2, 3}), 1), gradient = at::eye(2, 3);
  const auto result_of = [&](at::ScalarType dtype) {
    return softmax_backward_data(Parent{1}, gradient, output, 1, output.to(dtype));
  };
  EXPECT_TENSORS_EQUAL(result_of(at::kBFloat16), result_of(at::kFloat));
  EXPECT_TENSORS_EQUAL(result_of(at::kDouble), result_of(at::kFloat));
  EXPECT_ERROR(result_of(at::kHalf), "expected scalar type", "Half");
}

TEST(MeshgridTest, PassesGradients) {
  const auto x = at::zeros({2}).requires_grad_(), y = at::zeros({3}).requires_grad_();
  const auto weights = at::arange(6, at::kFloat).view({2, 3});
  const auto grid = meshgrid({x, y}, "ij");
  (grid[0] * weights + grid[1] * weights * 10).sum().backward();
  EXPECT_TENSORS_EQUAL(x.grad(), at::tensor({3.F, 12.F}));
  EXPECT_TENSORS_EQUAL(y.grad(), at::tensor({30.F, 50.F, 70.F}));
  EXPECT_TENSORS_EQUAL(meshgrid({x, y})[0], grid[0]);
}

TEST(MeshgridTest, RefusesAnUnknownIndexing) {
  EXPECT_ERROR(meshgrid({at::ones({2}), at::ones({3})}, "yx"), "indexing", "yx");
}

TEST(MeshgridTest, EqualsPythonInBothIndexings) {
  for (const auto& golden : cases_of("meshgrid_")) {
    const auto grid = meshgrid({golden.tensor("x"), golden.tensor("y")}, golden.get<std::string>("indexing"));
    EXPECT_TENSORS_EQUAL(grid[0], golden.tensor("grid.0"));
    EXPECT_TENSORS_EQUAL(grid[1], golden.tensor("grid.1"));
  }
}

TEST(IdTensorStorageTest, ViewsShareItAndCopiesDoNot) {
  const auto tensor = at::ones({4, 2});
  EXPECT_EQ(id_tensor_storage(tensor), id_tensor_storage(tensor.t()));
  EXPECT_EQ(id_tensor_storage(tensor), id_tensor_storage(tensor[1]));
  EXPECT_FALSE(id_tensor_storage(tensor) == id_tensor_storage(tensor.clone()));
  const auto meta = at::TensorOptions(at::kMeta);
  EXPECT_EQ(id_tensor_storage(at::empty({2}, meta)), id_tensor_storage(at::empty({2}, meta)));
  EXPECT_FALSE(id_tensor_storage(at::empty({2}, meta)) == id_tensor_storage(at::empty({3}, meta)));
}

TEST(IsinTest, TakesTensorsAndScalars) {
  const auto elements = at::tensor({1, 2, 3});
  EXPECT_TENSORS_EQUAL(transformers::isin(elements, at::tensor({3, 1})), at::tensor({1, 0, 1}).to(at::kBool));
  EXPECT_TENSORS_EQUAL(transformers::isin(elements, 2), at::tensor({0, 1, 0}).to(at::kBool));
}

TEST(LayerNormLayersTest, HoldsLayerNormAndWhatFamiliesAdd) {
  EXPECT_TRUE(LayerNormLayers::contains(*LayerNorm(3, 1e-5)));
  EXPECT_TRUE(LayerNormLayers::contains(*LlamaRMSNorm(3, 1e-5)));
  EXPECT_FALSE(LayerNormLayers::contains(*Linear(3, 3)));
}

TEST(VersionFlagsTest, FollowTheLibTorchOfTheBuild) {
  static_assert(is_torch_greater_or_equal_than_1_12 && is_torch_greater_or_equal_than_2_8);
  static_assert(!detail::torch_is_at_least(99, 0));
  SUCCEED();
}

TEST(Conv1DTest, CanBeCopiedAndStandsInATorchSequential) {
  Conv1D first(3, 4), second(2, 3);
  second->eval();
  const auto copy = std::dynamic_pointer_cast<Conv1DImpl>(second->clone());
  EXPECT_TENSORS_EQUAL(copy->weight, second->weight);
  EXPECT_TRUE(copy->weight.is_same(copy->named_parameters()["weight"]));
  EXPECT_NE(copy->weight.data_ptr(), second->weight.data_ptr());
  EXPECT_FALSE(copy->is_training());
  torch::nn::Sequential both(first, second);
  const auto input = torch::randn({2, 5, 4});
  EXPECT_TENSORS_EQUAL(both->forward(input), second(first(input)));
  EXPECT_TENSORS_EQUAL(std::dynamic_pointer_cast<torch::nn::SequentialImpl>(both->clone())->forward(input),
                       both->forward(input));
}

}  // namespace
}  // namespace transformers
