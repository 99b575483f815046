#pragma once

#include <transformers/utils/nn/linear.h>
#include <transformers/utils/peft/lora_config.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "utils/peft/lora_targets.h"

namespace transformers {

/// The weights of one adapter beside one Linear. lora_A: [r, in]; lora_B: [out, r]; lora_B_bias: [out] and
/// lora_magnitude_vector: [out], both undefined unless the config asks for them.
class LoraWeightsImpl : public Cloneable<LoraWeightsImpl> {
 public:
  /// Leaves the weights uninitialised. device: unset: that of the layer's weight.
  LoraWeightsImpl(const LoraTarget& target, const LoraConfig& config, c10::ScalarType dtype,
                  std::optional<c10::Device> device = std::nullopt);

  auto members() { return std::tie(lora_A, lora_B, lora_B_bias, lora_magnitude_vector); }

  /// Draws random numbers in the same order as peft, so that the same seed gives the same values.
  void initialize(const LinearImpl& linear, LoraInit init, at::Generator generator);

  /// Returns `result` plus the adapter's contribution. input: [..., in]; result: [..., out].
  at::Tensor add_to(const at::Tensor& result, const LinearImpl& linear, const at::Tensor& input) const;

  /// The adapter's addition to a weight: scaling · B · A, [out, in].
  at::Tensor delta_weight() const;
  /// The 2-norm of each row of weight + delta, [out], to which the magnitudes are relative.
  at::Tensor weight_norm(const at::Tensor& weight) const;

  at::Tensor lora_A, lora_B, lora_B_bias, lora_magnitude_vector;
  double scaling;

 private:
  at::Tensor add_dora(const at::Tensor& result, const LinearImpl& linear, const at::Tensor& x) const;

  double dropout_;
};
TORCH_MODULE(LoraWeights);

/// A linear method that adds the contributions of the active adapters to the result of another one. Mirrors peft's
/// `lora.Linear`.
class LoraLinear : public LinearMethod {
 public:
  /// Whether a layer's output depends only on its own weight and input, so that an adapter can be added to it and
  /// merged: plain, sliced, packed and quantised matmuls (the last are not merged). False for a partial matmul that
  /// other processes complete.
  static bool fits(const LinearMethod* base);

  /// `base` is the layer's previous method; null: the plain matmul.
  explicit LoraLinear(std::shared_ptr<const LinearMethod> base) : base_(std::move(base)) {}

  torch::Tensor forward(const LinearImpl& linear, const torch::Tensor& input) const override;
  int64_t bytes() const override { return base_ ? base_->bytes() : 0; }
  /// The clone has copies of the adapters, which belong to no PeftModel.
  std::shared_ptr<const LinearMethod> clone(const LinearImpl& copy, TensorCopies& copies) const override;

  /// The same with another base, where `copy_of` returns the copy of each adapter.
  using AdapterCopies = std::function<LoraWeights(const LoraWeights&)>;
  std::shared_ptr<LoraLinear> with_copies(std::shared_ptr<const LinearMethod> base, const AdapterCopies& copy_of,
                                          TensorCopies& copies) const;

  /// Sets the active adapters in the order in which they are applied; empty while adapters are switched off.
  void set_active(std::vector<LoraWeights> weights) { active_ = std::move(weights); }
  const std::shared_ptr<const LinearMethod>& base() const { return base_; }

  /// Adds the adapters to the layer's weight; forward is then the base method alone.
  void merge(LinearImpl& linear, const std::vector<LoraWeights>& weights);
  /// Subtracts them again, up to rounding.
  void unmerge(LinearImpl& linear);
  bool merged() const { return !merged_.empty(); }

 private:
  struct Merged {
    LoraWeights weights;
    at::Tensor factor;  // DoRA's magnitude over norm, [out, 1]
  };
  /// Renews the base method after the weight was changed in place.
  void renew_base(const LinearImpl& linear);

  std::shared_ptr<const LinearMethod> base_;
  std::vector<LoraWeights> active_;
  std::vector<Merged> merged_;
};

}  // namespace transformers
