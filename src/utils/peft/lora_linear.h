#pragma once

#include <transformers/utils/nn/linear.h>
#include <transformers/utils/peft/lora_config.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace transformers {

/// What one adapter trains beside one Linear. lora_A: [r, in]; lora_B: [out, r]; undefined unless the config asks for
/// them: lora_B_bias: [out], lora_magnitude_vector: [out].
class LoraWeightsImpl : public Cloneable<LoraWeightsImpl> {
 public:
  /// Uninitialised. `alpha` and `rank` are those of this layer. device: unset: where the layer's weight lies.
  LoraWeightsImpl(const LinearImpl& linear, const LoraConfig& config, int64_t rank, double alpha, c10::ScalarType dtype,
                  std::optional<c10::Device> device = std::nullopt);

  auto members() { return std::tie(lora_A, lora_B, lora_B_bias, lora_magnitude_vector); }

  /// Draws in the order in which peft does, so that its values come of its seed.
  void initialize(const LinearImpl& linear, LoraInit init, at::Generator generator);

  /// `result` with the adapter's share added. input: [..., in]; result: [..., out].
  at::Tensor add_to(const at::Tensor& result, const LinearImpl& linear, const at::Tensor& input) const;

  /// What the adapter adds to a weight: scaling · B · A, [out, in].
  at::Tensor delta_weight() const;
  /// The 2-norm of each row of weight + delta, [out]: what the magnitudes are relative to.
  at::Tensor weight_norm(const at::Tensor& weight) const;

  at::Tensor lora_A, lora_B, lora_B_bias, lora_magnitude_vector;
  double scaling;

 private:
  at::Tensor add_dora(const at::Tensor& result, const LinearImpl& linear, const at::Tensor& x) const;

  double dropout_;
};
TORCH_MODULE(LoraWeights);

/// A Linear's product with the shares of the active adapters added to it. Mirrors peft's `lora.Linear`.
class LoraLinear : public LinearMethod {
 public:
  /// Whether a layer's output comes of its own weight and input alone, so that an adapter's share can be added to it
  /// and merged: plain, sliced, packed and quantised products (the last are not merged). Not the part of a product that
  /// other processes complete.
  static bool fits(const LinearMethod* base);

  /// `base` is the layer's method so far; null: the plain product.
  explicit LoraLinear(std::shared_ptr<const LinearMethod> base) : base_(std::move(base)) {}

  torch::Tensor forward(const LinearImpl& linear, const torch::Tensor& input) const override;
  int64_t bytes() const override { return base_ ? base_->bytes() : 0; }
  /// With copies of the adapters, of which no PeftModel knows.
  std::shared_ptr<const LinearMethod> clone(const LinearImpl& copy, TensorCopies& copies) const override;

  /// The same over another base, `copy_of` giving the copy of each adapter.
  using AdapterCopies = std::function<LoraWeights(const LoraWeights&)>;
  std::shared_ptr<LoraLinear> with_copies(std::shared_ptr<const LinearMethod> base, const AdapterCopies& copy_of,
                                          TensorCopies& copies) const;

  /// In the order in which they are applied; none while the adapters are off.
  void set_active(std::vector<LoraWeights> weights) { active_ = std::move(weights); }
  const std::shared_ptr<const LinearMethod>& base() const { return base_; }

  /// Adds the adapters to the layer's weight; forward then is the base product.
  void merge(LinearImpl& linear, const std::vector<LoraWeights>& weights);
  /// Takes them out again, to rounding.
  void unmerge(LinearImpl& linear);
  bool merged() const { return !merged_.empty(); }

 private:
  struct Merged {
    LoraWeights weights;
    at::Tensor factor;  // DoRA's magnitude over norm, [out, 1]
  };
  /// Follows a weight that was changed in place.
  void renew_base(const LinearImpl& linear);

  std::shared_ptr<const LinearMethod> base_;
  std::vector<LoraWeights> active_;
  std::vector<Merged> merged_;
};

}  // namespace transformers
