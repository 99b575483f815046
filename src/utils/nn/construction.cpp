#include <transformers/utils/nn/construction.h>

#include "utils/nn/amx_guard.h"

namespace transformers {
namespace {

// Of a static library only those objects are linked that something names; whoever builds a layer gets this one.
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
