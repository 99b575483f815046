#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// The rotary position embeddings of HF's modeling_rope_utils.py, transformers 5.23.0.
enum class RopeType { kDefault, kLinear, kDynamic, kYarn, kLongrope, kLlama3, kProportional };

/// Throws on an unknown name, with the list of names.
RopeType rope_type_from_name(std::string_view name);
std::string rope_type_name(RopeType type);

/// `rope_parameters` of a config, into which every spelling that a file may use is converted. `validate` checks that
/// the fields which a type needs are set.
struct RopeParameters {
  RopeType rope_type = RopeType::kDefault;
  double rope_theta = 10000.0;
  std::optional<double> factor;
  std::optional<double> partial_rotary_factor;
  std::optional<int64_t> original_max_position_embeddings;
  std::optional<double> attention_factor;                   // yarn, longrope
  std::optional<double> beta_fast, beta_slow;               // yarn
  std::optional<double> mscale, mscale_all_dim;             // yarn
  std::optional<bool> truncate;                             // yarn
  std::vector<double> short_factor, long_factor;            // longrope: one per rotated pair
  std::optional<double> low_freq_factor, high_freq_factor;  // llama3

  /// Unknown keys, as JSON text; written back on save.
  std::map<std::string, std::string> unknown_keys;

  /// Throws, naming the field, when a key that the type needs is missing or a value is out of range. `head_dim` is that
  /// of the model.
  void validate(int64_t head_dim) const;

 private:
  /// The checks of a single type. dim: the rotated part of head_dim.
  void check_type(int64_t dim) const;
};

/// Sizes of the model that the frequencies depend on.
struct RopeSizes {
  int64_t head_dim;
  int64_t max_position_embeddings;
};

struct InverseFrequencies {
  at::Tensor inv_freq;          // fp32 [rotated pairs], on the CPU
  double attention_factor = 1;  // multiplies cos and sin
};

/// HF's `ROPE_INIT_FUNCTIONS[rope_type]`. `seq_len` is the length to which the dynamic type stretches, and by which
/// longrope chooses its short or long factors; 0: not known yet.
InverseFrequencies compute_inverse_frequencies(const RopeParameters& parameters, const RopeSizes& sizes,
                                               int64_t seq_len = 0);

/// Computed once per forward and applied in every layer. cos, sin: [batch or 1, seq, rotated dims].
struct RotaryEmbeddings {
  at::Tensor cos{}, sin{};
};

/// Maps the halves (x0, x1) to (−x1, x0): the pairing (i, i + d/2) of LLaMA.
at::Tensor rotate_half(const at::Tensor& tensor);

/// Maps neighbours (x0, x1) to (−x1, x0): the pairing (2i, 2i + 1) of GPT-J.
at::Tensor rotate_every_two(const at::Tensor& tensor);

}  // namespace transformers
