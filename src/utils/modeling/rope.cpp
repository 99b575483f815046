// Mirrors modeling_rope_utils.py, transformers 5.23.0. Deviations: odd values are errors where HF warns.
#include <ATen/ATen.h>
#include <transformers/utils/modeling/rope.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>

#include "utils/text/named_values.h"

namespace transformers {
namespace {

using NamedRopeType = NamedValue<RopeType>;
constexpr std::array kRopeTypes{
    NamedRopeType{"default", RopeType::kDefault},           NamedRopeType{"linear", RopeType::kLinear},
    NamedRopeType{"dynamic", RopeType::kDynamic},           NamedRopeType{"yarn", RopeType::kYarn},
    NamedRopeType{"longrope", RopeType::kLongrope},         NamedRopeType{"llama3", RopeType::kLlama3},
    NamedRopeType{"proportional", RopeType::kProportional},
};

int64_t rotated_dims(const RopeParameters& parameters, int64_t head_dim) {
  return static_cast<int64_t>(static_cast<double>(head_dim) * parameters.partial_rotary_factor.value_or(1.0));
}

/// theta^(i / dim) for i = 0, 2, …, fp32.
at::Tensor wavelengths(double theta, int64_t dim) {
  return at::pow(theta, at::arange(0, dim, 2, at::kLong).to(at::kFloat) / dim);
}

at::Tensor default_frequencies(double theta, int64_t dim) { return 1.0 / wavelengths(theta, dim); }

InverseFrequencies dynamic_ntk(const RopeParameters& p, const RopeSizes& sizes, int64_t seq_len) {
  const auto dim = rotated_dims(p, sizes.head_dim);
  const auto max_positions = sizes.max_position_embeddings;
  const double exponent = static_cast<double>(dim) / static_cast<double>(dim - 2);
  if (seq_len == 0) {
    return {default_frequencies(p.rope_theta, dim)};
  }
  // fp32 from here on: HF's length is an integer tensor, and products with it are rounded to fp32.
  const auto length = at::scalar_tensor(std::max(seq_len, max_positions), at::kLong);
  const auto stretch = *p.factor * length / max_positions - (*p.factor - 1);
  const auto theta = p.rope_theta * at::pow(stretch, exponent);
  return {1.0 / at::pow(theta, at::arange(0, dim, 2, at::kLong).to(at::kFloat) / dim)};
}

double yarn_mscale(double scale, double mscale) { return scale <= 1 ? 1.0 : 0.1 * mscale * std::log(scale) + 1.0; }

double yarn_attention_factor(const RopeParameters& p, double factor) {
  if (p.attention_factor) {
    return *p.attention_factor;
  }
  if (p.mscale.value_or(0) != 0 && p.mscale_all_dim.value_or(0) != 0) {
    return yarn_mscale(factor, *p.mscale) / yarn_mscale(factor, *p.mscale_all_dim);
  }
  return yarn_mscale(factor, 1.0);
}

/// 0 where a pair keeps its frequency, 1 where it is interpolated.
at::Tensor yarn_ramp(const RopeParameters& p, double original_length, int64_t dim) {
  const auto correction_dim = [&](double rotations) {
    return static_cast<double>(dim) * std::log(original_length / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(p.rope_theta));
  };
  const auto given_or = [](std::optional<double> value, double otherwise) {
    return value.value_or(0) != 0 ? *value : otherwise;
  };
  double low = correction_dim(given_or(p.beta_fast, 32));
  double high = correction_dim(given_or(p.beta_slow, 1));
  if (p.truncate.value_or(true)) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) {
    high += 0.001;
  }
  return ((at::arange(dim / 2, at::kFloat) - low) / (high - low)).clamp(0, 1);
}

double extension_factor(const RopeParameters& p, const RopeSizes& sizes) {
  return p.factor ? *p.factor
                  : static_cast<double>(sizes.max_position_embeddings) /
                        static_cast<double>(*p.original_max_position_embeddings);
}

InverseFrequencies yarn(const RopeParameters& p, const RopeSizes& sizes) {
  const auto dim = rotated_dims(p, sizes.head_dim);
  const double factor = extension_factor(p, sizes);
  const auto waves = wavelengths(p.rope_theta, dim);
  const auto keep = 1 - yarn_ramp(p, static_cast<double>(*p.original_max_position_embeddings), dim);
  const auto inv_freq = 1.0 / (factor * waves) * (1 - keep) + 1.0 / waves * keep;
  return {inv_freq, yarn_attention_factor(p, factor)};
}

InverseFrequencies longrope(const RopeParameters& p, const RopeSizes& sizes, int64_t seq_len) {
  const auto original = *p.original_max_position_embeddings;
  const double factor = extension_factor(p, sizes);
  const double attention_factor = p.attention_factor
                                      ? *p.attention_factor
                                      : (factor <= 1.0 ? 1.0 : std::sqrt(1 + std::log(factor) / std::log(original)));
  const auto& extension = seq_len > original ? p.long_factor : p.short_factor;
  const auto dim = rotated_dims(p, sizes.head_dim);
  return {1.0 / (at::tensor(extension, at::kFloat) * wavelengths(p.rope_theta, dim)), attention_factor};
}

InverseFrequencies llama3(const RopeParameters& p, const RopeSizes& sizes) {
  const auto inv_freq = default_frequencies(p.rope_theta, rotated_dims(p, sizes.head_dim));
  const double low = *p.low_freq_factor;
  const double high = *p.high_freq_factor;
  const auto original = static_cast<double>(*p.original_max_position_embeddings);
  const auto wavelength = 2 * std::numbers::pi / inv_freq;
  const auto is_long = wavelength > original / low;
  const auto is_short = wavelength < original / high;
  const auto scaled = at::where(is_long, inv_freq / *p.factor, inv_freq);
  const auto smooth = (original / wavelength - low) / (high - low);
  const auto smoothed = (1 - smooth) * scaled / *p.factor + smooth * scaled;
  return {at::where(is_long.logical_not().logical_and(is_short.logical_not()), smoothed, scaled)};
}

InverseFrequencies proportional(const RopeParameters& p, const RopeSizes& sizes) {
  const auto share = p.partial_rotary_factor.value_or(1.0);
  const auto angles = static_cast<int64_t>(std::floor(share * static_cast<double>(sizes.head_dim) / 2));
  const auto rotated =
      1.0 / at::pow(p.rope_theta, at::arange(0, 2 * angles, 2, at::kLong).to(at::kFloat) / sizes.head_dim);
  const auto still = at::zeros({sizes.head_dim / 2 - angles}, at::kFloat);
  return {at::cat({rotated, still}) / p.factor.value_or(1.0)};
}

void check_positive(const char* name, const std::optional<double>& value) {
  TORCH_CHECK(!value || (std::isfinite(*value) && *value > 0), "rope_parameters: ", name,
              " must be a finite number above 0, got ", *value);
}

void check_extension_list(const char* name, const std::vector<double>& factors, int64_t pairs) {
  TORCH_CHECK(std::cmp_equal(factors.size(), pairs), "rope_parameters: ", name, " must have ", pairs,
              " entries, one per rotated pair, got ", factors.size());
  for (const double factor : factors) {
    check_positive(name, factor);
  }
}

}  // namespace

RopeType rope_type_from_name(std::string_view name) { return value_of_name(kRopeTypes, "rope_type", name); }

std::string rope_type_name(RopeType type) { return name_of_value(kRopeTypes, type); }

void RopeParameters::validate(int64_t head_dim) const {
  check_positive("rope_theta", rope_theta);
  check_positive("factor", factor);
  check_positive("partial_rotary_factor", partial_rotary_factor);
  TORCH_CHECK(partial_rotary_factor.value_or(1) <= 1, "rope_parameters: partial_rotary_factor must be at most 1, got ",
              *partial_rotary_factor);
  check_positive("attention_factor", attention_factor);
  check_positive("low_freq_factor", low_freq_factor);
  check_positive("high_freq_factor", high_freq_factor);
  TORCH_CHECK(original_max_position_embeddings.value_or(1) > 0,
              "rope_parameters: original_max_position_embeddings must be above 0, got ",
              *original_max_position_embeddings);
  const auto dim = rotated_dims(*this, head_dim);
  TORCH_CHECK(rope_type == RopeType::kProportional || (dim >= 2 && dim % 2 == 0),
              "rope_parameters: the rotated part of head_dim ", head_dim, " must be even and at least 2, got ", dim);
  check_type(dim);
}

void RopeParameters::check_type(int64_t dim) const {
  const auto require = [&](const char* name, bool present) {
    TORCH_CHECK(present, "rope_parameters: rope_type \"", rope_type_name(rope_type), "\" needs ", name);
  };
  switch (rope_type) {
    case RopeType::kLinear:
      return require("factor", factor.has_value());
    case RopeType::kDynamic:
      require("factor", factor.has_value());
      TORCH_CHECK(dim > 2, "rope_parameters: rope_type \"dynamic\" needs more than 2 rotated dimensions, got ", dim);
      return;
    case RopeType::kYarn:
      return require("original_max_position_embeddings", original_max_position_embeddings.has_value());
    case RopeType::kLongrope:
      require("original_max_position_embeddings", original_max_position_embeddings.has_value());
      check_extension_list("short_factor", short_factor, dim / 2);
      return check_extension_list("long_factor", long_factor, dim / 2);
    case RopeType::kLlama3:
      require("factor", factor.has_value());
      require("low_freq_factor", low_freq_factor.has_value());
      require("high_freq_factor", high_freq_factor.has_value());
      require("original_max_position_embeddings", original_max_position_embeddings.has_value());
      TORCH_CHECK(*low_freq_factor < *high_freq_factor,
                  "rope_parameters: low_freq_factor must be below high_freq_factor, got ", *low_freq_factor, " and ",
                  *high_freq_factor);
      return;
    case RopeType::kDefault:
    case RopeType::kProportional:
      return;
  }
}

InverseFrequencies compute_inverse_frequencies(const RopeParameters& parameters, const RopeSizes& sizes,
                                               int64_t seq_len) {
  const auto dim = rotated_dims(parameters, sizes.head_dim);
  switch (parameters.rope_type) {
    case RopeType::kDefault:
      return {default_frequencies(parameters.rope_theta, sizes.head_dim)};
    case RopeType::kLinear:
      return {default_frequencies(parameters.rope_theta, dim) / *parameters.factor};
    case RopeType::kDynamic:
      return dynamic_ntk(parameters, sizes, seq_len);
    case RopeType::kYarn:
      return yarn(parameters, sizes);
    case RopeType::kLongrope:
      return longrope(parameters, sizes, seq_len);
    case RopeType::kLlama3:
      return llama3(parameters, sizes);
    case RopeType::kProportional:
      return proportional(parameters, sizes);
  }
  TORCH_INTERNAL_ASSERT(false, "rope type without a formula");
}

at::Tensor rotate_half(const at::Tensor& tensor) {
  const auto half = tensor.size(-1) / 2;
  return at::cat({-tensor.narrow(-1, half, tensor.size(-1) - half), tensor.narrow(-1, 0, half)}, -1);
}

at::Tensor rotate_every_two(const at::Tensor& tensor) {
  const auto even = tensor.slice(-1, 0, std::nullopt, 2);
  const auto odd = tensor.slice(-1, 1, std::nullopt, 2);
  return at::stack({-odd, even}, -1).flatten(-2);
}

}  // namespace transformers
