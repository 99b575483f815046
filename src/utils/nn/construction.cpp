#include <transformers/utils/nn/construction.h>

namespace transformers {
namespace {

ConstructionOptions& current() {
  thread_local ConstructionOptions options;
  return options;
}

}  // namespace

const ConstructionOptions& construction_options() { return current(); }

ConstructionGuard::ConstructionGuard(ConstructionOptions options) : previous_(current()) { current() = options; }

ConstructionGuard::~ConstructionGuard() { current() = previous_; }

}  // namespace transformers
