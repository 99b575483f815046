// Pruning of layers, modules and models whose parameters lie on a GPU.
#include <torch/torch.h>
#include <transformers/utils/model_pruning/importance.h>
#include <transformers/utils/pruning/prune.h>
#include <transformers/utils/pruning/pruners.h>
#include <transformers/utils/pytorch_utils.h>

#include "cuda/skip_without_cuda.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

constexpr double kOfTheLargest = 1e-5;  // kernels of two kinds

TEST(PruneLinearLayerOnCudaTest, KeepsTheDevice) {
  SKIP_WITHOUT_CUDA();
  Linear layer(3, 4);
  const auto expected = prune_linear_layer(layer, at::tensor({3, 1}));
  layer->to(at::kCUDA);
  const auto smaller = prune_linear_layer(layer, at::tensor({3, 1}));
  EXPECT_TRUE(smaller->weight.is_cuda() && smaller->bias.is_cuda());
  EXPECT_TENSORS_EQUAL(smaller->weight.detach().cpu(), expected->weight.detach());
  EXPECT_TENSORS_EQUAL(smaller->bias.detach().cpu(), expected->bias.detach());
}

TEST(IdTensorStorageOnCudaTest, TellsDevicesApartAndViewsTogether) {
  SKIP_WITHOUT_CUDA();
  const auto tensor = at::ones({4, 2}, at::kCUDA);
  EXPECT_EQ(id_tensor_storage(tensor), id_tensor_storage(tensor.t()[1]));
  EXPECT_EQ(id_tensor_storage(tensor).device, tensor.device());
  EXPECT_FALSE(id_tensor_storage(tensor) == id_tensor_storage(tensor.cpu()));
}

TEST(SoftmaxBackwardDataOnCudaTest, GivesHalfToASelfOfHalf) {
  SKIP_WITHOUT_CUDA();
  struct Parent {
    int64_t dim;
  };
  const auto output = at::softmax(at::arange(6, at::kFloat).view({2, 3}), 1).cuda(), gradient = at::eye(2, 3).cuda();
  const auto half = softmax_backward_data(Parent{1}, gradient, output, 1, output.to(at::kHalf));
  EXPECT_TENSORS_CLOSE(half.cpu(), softmax_backward_data(Parent{1}, gradient, output).to(at::kHalf).cpu());
}

TEST(SaliencyPrunerOnCudaTest, PrunesAcrossConvolutionsAndALinear) {
  SKIP_WITHOUT_CUDA();
  const at::NoGradGuard no_grad;
  torch::manual_seed(2);
  const auto conv = [](int64_t in, int64_t out) { return torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, 3)); };
  torch::nn::Sequential model(conv(2, 6), torch::nn::Sigmoid(), conv(6, 4),
                              torch::nn::AdaptiveAvgPool2d(torch::nn::AdaptiveAvgPool2dOptions(2)),
                              torch::nn::Flatten(), torch::nn::Linear(16, 3));
  model->to(at::kCUDA);
  SaliencyPruner pruner({.prune_bias = false});
  pruner.prepare(model.ptr(), {{.tensor_fqn = "0.weight"}, {.tensor_fqn = "2.weight"}});
  pruner.step();
  const auto input = at::randn({2, 2, 10, 10}, at::kCUDA);
  const auto masked = model->forward(input);
  pruner.prune();
  EXPECT_TRUE(tensors_close_to_largest(model->forward(input), masked, kOfTheLargest));
  for (const auto& parameter : model->parameters()) {
    EXPECT_TRUE(parameter.is_cuda());
  }
  EXPECT_EQ(model->ptr<torch::nn::LinearImpl>(5)->weight.size(1), 8);
}

TEST(L1UnstructuredOnCudaTest, HidesWhatItHidesOnTheCpu) {
  SKIP_WITHOUT_CUDA();
  torch::nn::Linear on_cpu(5, 4);
  auto on_cuda = std::dynamic_pointer_cast<torch::nn::LinearImpl>(on_cpu->clone(at::kCUDA));
  prune::l1_unstructured(*on_cpu, "weight", 0.4);
  prune::l1_unstructured(*on_cuda, "weight", 0.4);
  EXPECT_TRUE(on_cuda->weight.is_cuda());
  EXPECT_TENSORS_EQUAL(on_cuda->weight.detach().cpu(), on_cpu->weight.detach());
}

TEST(PruneModelOnCudaTest, PlansAndPrunesAsOnTheCpu) {
  SKIP_WITHOUT_CUDA();
  const at::NoGradGuard no_grad;
  const auto ids = tiny_ids(2, 7);
  for (const auto mode : {PruningMode::kRemove, PruningMode::kZero}) {
    const auto on_cpu = tiny_model(tiny_llama()), on_cuda = tiny_model(tiny_llama());
    on_cuda->to(at::kCUDA);
    const PruningRequest request{.shares = {{PrunablePart::kGroups, 0.5}, {PrunablePart::kChannels, 0.5}},
                                 .importance = {.criterion = PruningCriterion::kTaylor, .calibration = {ids}}};
    auto plan = plan_pruning(*on_cuda, request);
    EXPECT_EQ(plan.to_json(), plan_pruning(*on_cpu, request).to_json());
    plan.layers = {1};
    prune_model(*on_cpu, plan, mode);
    prune_model(*on_cuda, plan, mode);
    for (const auto& parameter : on_cuda->parameters()) {
      EXPECT_TRUE(parameter.is_cuda());
    }
    EXPECT_TRUE(tensors_close_to_largest(on_cuda->forward({.input_ids = ids.cuda()}).logits.cpu(),
                                         on_cpu->forward({.input_ids = ids}).logits, kOfTheLargest));
  }
}

}  // namespace
}  // namespace transformers::testing
