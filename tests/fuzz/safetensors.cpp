#include "fuzz/target.h"
#include "utils/io/file_builders.h"
#include "utils/io/safetensors_header.h"

namespace transformers::fuzz {

std::vector<std::string> seeds() {
  using testing::entry;
  using testing::safetensors_bytes;
  return {
      safetensors_bytes("{}      "),
      safetensors_bytes("{" + entry("b", "F32", "[2,1]", "[4,12]") + "," + entry("a", "I32", "[]", "[0,4]") +
                            R"(,"__metadata__":{"format":"pt"}})",
                        std::string(12, '\1')),
      safetensors_bytes("{" + entry("e", "F8_E4M3", "[0,3]", "[0,0]") + R"(,"x":{"dtype":"BOOL","other":[{"y":[1]}],)" +
                            R"("shape":[2],"data_offsets":[0,2]}})",
                        std::string(2, '\1'))};
}

void try_input(std::string_view input) { parse_safetensors(input, "input"); }

}  // namespace transformers::fuzz
