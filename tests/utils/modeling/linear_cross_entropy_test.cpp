#include <ATen/ATen.h>
#include <transformers/utils/modeling/causal_lm.h>
#include <transformers/utils/modeling/linear_cross_entropy.h>
#include <transformers/utils/modeling/losses.h>
#include <transformers/utils/nn/autocast.h>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

struct Case {
  at::Tensor hidden, weight, bias, labels;
};

Case make_case(at::ScalarType dtype = at::kFloat, bool with_bias = true) {
  at::manual_seed(5);
  const auto leaf = [dtype](at::IntArrayRef shape) { return at::randn(shape).to(dtype).requires_grad_(); };
  return {leaf({7, 6}), leaf({11, 6}), with_bias ? leaf({11}) : at::Tensor(),
          at::tensor({3, -100, 0, 10, 10, -100, 5}, at::kLong)};
}

at::Tensor plain_loss(const Case& c, const LinearCrossEntropyOptions& options) {
  const auto logits = at::linear(c.hidden, c.weight, c.bias).to(at::kFloat).unsqueeze(0);
  return causal_lm_loss(logits, {.shift_labels = c.labels.unsqueeze(0),
                                 .num_items_in_batch = options.num_items_in_batch,
                                 .label_smoothing = options.label_smoothing});
}

void expect_equal(const Case& chunked, const Case& plain, const LinearCrossEntropyOptions& options,
                  Tolerance tolerance) {
  const auto loss = linear_cross_entropy(chunked.hidden, chunked.weight, chunked.bias, chunked.labels, options);
  const auto expected = plain_loss(plain, options);
  EXPECT_TENSORS_CLOSE(loss, expected);
  (loss * 3).backward();
  (expected * 3).backward();
  EXPECT_TENSORS_CLOSE(chunked.hidden.grad(), plain.hidden.grad(), tolerance);
  EXPECT_TENSORS_CLOSE(chunked.weight.grad(), plain.weight.grad(), tolerance);
  if (plain.bias.defined()) {
    EXPECT_TENSORS_CLOSE(chunked.bias.grad(), plain.bias.grad(), tolerance);
  }
}

TEST(LinearCrossEntropyTest, LossAndGradientsAreThoseOfTheTwoStepsForEveryChunkSize) {
  for (const int64_t rows : {1, 3, 7, 100}) {
    for (const double smoothing : {0.0, 0.1}) {
      SCOPED_TRACE(std::to_string(rows) + " rows, smoothing " + std::to_string(smoothing));
      const auto tolerance = default_tolerance(at::kFloat);
      expect_equal(make_case(), make_case(), {.chunk_rows = rows, .label_smoothing = smoothing}, tolerance);
      expect_equal(make_case(at::kFloat, false), make_case(at::kFloat, false),
                   {.chunk_rows = rows, .num_items_in_batch = 12, .label_smoothing = smoothing}, tolerance);
    }
  }
}

TEST(LinearCrossEntropyTest, HalfPrecisionAgreesToItsRounding) {
  // The gradients of a chunk are rounded to bf16 before they are added.
  expect_equal(make_case(at::kBFloat16), make_case(at::kBFloat16), {.chunk_rows = 3},
               {.relative = 2e-2, .absolute = 1e-2});
}

TEST(LinearCrossEntropyTest, TheNumberOfItemsIsNotRounded) {
  // 1021 has no bfloat16 of its own.
  const auto one = make_case(at::kBFloat16), many = make_case(at::kBFloat16);
  const auto loss = linear_cross_entropy(one.hidden, one.weight, one.bias, one.labels, {.num_items_in_batch = 1});
  const auto part =
      linear_cross_entropy(many.hidden, many.weight, many.bias, many.labels, {.num_items_in_batch = 1021});
  EXPECT_TENSORS_CLOSE(part * 1021, loss);
}

TEST(LinearCrossEntropyTest, NoRowsLeaveNoGradient) {
  const auto c = make_case();
  const auto none = at::empty({0, 6}).requires_grad_();
  linear_cross_entropy(none, c.weight, c.bias, at::empty({0}, at::kLong), {.num_items_in_batch = 1}).backward();
  EXPECT_TENSORS_EQUAL(c.weight.grad(), at::zeros_like(c.weight));
}

TEST(LinearCrossEntropyTest, UnderAutocastProductsAreThoseOfTheTwoSteps) {
  const auto chunked = make_case(), plain = make_case();
  const AutocastGuard autocast(c10::kCPU, at::kBFloat16);
  expect_equal(chunked, plain, {.chunk_rows = 3}, {.relative = 2e-2, .absolute = 1e-2});
}

TEST(LinearCrossEntropyTest, WhatNeedsNoGradientGetsNone) {
  auto c = make_case();
  c.weight.set_requires_grad(false);
  linear_cross_entropy(c.hidden, c.weight, c.bias, c.labels).backward();
  EXPECT_TRUE(c.hidden.grad().defined());
  EXPECT_FALSE(c.weight.grad().defined());
}

TEST(LinearCrossEntropyTest, AModelsLossInChunksIsItsLoss) {
  for (const auto& [name, config] : config_grid()) {
    SCOPED_TRACE(name);
    const auto plain = tiny_model(*config), chunked = tiny_model(*config);
    const auto ids = tiny_ids(2, 9);
    const auto expected = plain->forward({.input_ids = ids}, {.labels = ids});
    const auto found = chunked->forward({.input_ids = ids}, {.labels = ids, .loss_chunk_rows = 4});
    EXPECT_FALSE(found.logits.defined());
    EXPECT_TENSORS_CLOSE(found.loss, expected.loss);
    expected.loss.backward();
    found.loss.backward();
    const auto gradients = plain->named_parameters();
    for (const auto& item : chunked->named_parameters()) {
      SCOPED_TRACE(item.key());
      EXPECT_TRUE(tensors_close_to_largest(item.value().grad(), gradients[item.key()].grad(), 1e-5));
    }
  }
}

TEST(LinearCrossEntropyTest, ShapesThatDoNotFitAreRefused) {
  const auto c = make_case();
  EXPECT_ERROR(linear_cross_entropy(c.hidden, c.weight, c.bias, c.labels.slice(0, 1)), "[7, 6]", "[6]");
  EXPECT_ERROR(linear_cross_entropy(c.hidden, c.weight, c.bias, c.labels, {.chunk_rows = 0}), "chunk_rows", "0");
}

}  // namespace
}  // namespace transformers::testing
