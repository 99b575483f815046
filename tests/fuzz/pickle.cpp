#include "utils/io/pickle.h"

#include "fuzz/target.h"
#include "utils/io/file_builders.h"

namespace transformers::fuzz {

std::vector<std::string> seeds() {
  namespace p = testing::pickle;
  const auto tensor = p::tensor(p::storage("FloatStorage", "0", 6), 1, {2, 2}, {1, 3});
  const auto ordered = p::global("collections", "OrderedDict") + ")R";
  const auto numbers = p::integer(1) + "K\2M\1\1J\1\1\1\1G" + std::string("?\xf0\0\0\0\0\0\0", 8);
  return {p::whole(p::dict({p::text("w"), tensor})),
          p::whole(ordered + "q\1(" + p::text("a") + "]q\2(" + numbers + "eu}b"),
          p::whole(p::dict({p::text("d"), p::dict({p::text("p"), p::global("torch._utils", "_rebuild_parameter") +
                                                                     p::tuple({tensor, "\x88", ordered}) + "R"})}))};
}

void try_input(std::string_view input) { const Pickle pickle(input, "input"); }

}  // namespace transformers::fuzz
