#pragma once

#include <transformers/export.h>

#include <string>
#include <string_view>

namespace TRANSFORMERS_API transformers {

/// Which kernel computes attention. `kAuto` takes the fastest one that supports what a call asks for. `kEager` is
/// composed of plain operations in HF's order and is the only one that returns attention weights. `kFlash` skips
/// padding: with the flash kernel on CUDA in half precision, elsewhere row by row with the fused kernel.
enum class AttnImplementation { kAuto, kEager, kSdpa, kFlash };

/// "auto", "eager", "sdpa", "flash" (also "flash_attention_2"). Throws on any other name, with the list of names.
AttnImplementation attn_implementation_from_name(std::string_view name);
std::string attn_implementation_name(AttnImplementation implementation);

}  // namespace transformers
