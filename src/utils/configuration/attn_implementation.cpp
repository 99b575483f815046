#include <transformers/utils/configuration/attn_implementation.h>

#include <array>

#include "utils/text/named_values.h"

namespace transformers {
namespace {

using Name = NamedValue<AttnImplementation>;
constexpr std::array kNames{
    Name{"auto", AttnImplementation::kAuto},
    Name{"eager", AttnImplementation::kEager},
    Name{"sdpa", AttnImplementation::kSdpa},
    Name{"flash", AttnImplementation::kFlash},
    Name{"flash_attention_2", AttnImplementation::kFlash},
};

}  // namespace

AttnImplementation attn_implementation_from_name(std::string_view name) {
  return value_of_name(kNames, "attention implementation", name);
}

std::string attn_implementation_name(AttnImplementation implementation) {
  return name_of_value(kNames, implementation);
}

}  // namespace transformers
