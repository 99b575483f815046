#include <cmath>
#include <cstdlib>

#include "cli/training_curves.h"
#include "fuzz/target.h"

namespace transformers::fuzz {

/// Whatever the numbers of a log are, each has its place on the axis, and so has each tick.
void try_input(std::string_view input) {
  for (const auto& curve : cli::curves_of(input, "input", {"loss"})) {
    const auto range = cli::Range::of(curve.values);
    const auto check = [&](double value) {
      const auto place = range.place(value);
      if (!(place >= 0 && place <= 1)) {
        std::abort();
      }
    };
    for (const auto value : curve.values) {
      check(value);
    }
    for (const auto& tick : cli::ticks(range, /*whole=*/input.size() % 2 == 0)) {
      check(tick.value);
    }
  }
}

}  // namespace transformers::fuzz
