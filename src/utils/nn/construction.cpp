#include <transformers/utils/nn/construction.h>

#include "utils/nn/amx_guard.h"

namespace transformers {
namespace {

// A linker takes only those objects of a static library that are referred to; every layer that is built refers to this
// one.
[[gnu::used]] void (*const kAmxGuard)() = &bound_instruction_set;

ConstructionOptions& current() {
  thread_local ConstructionOptions options;
  return options;
}

}  // namespace

const ConstructionOptions& construction_options() { return current(); }

ConstructionGuard::ConstructionGuard(ConstructionOptions options) : previous_(current()) { current() = options; }

ConstructionGuard::~ConstructionGuard() { current() = previous_; }

}  // namespace transformers
