// Loads weights and saves them again, for the scripts that compare us with Python. Each line of the input is
//   <file or folder> TAB <new file>                      or
//   <file or folder> TAB <new folder> TAB <bytes a shard at most>
// and is answered by a line: "ok", or "error: " and the message.
#include <transformers/utils/io/checkpoint.h>
#include <transformers/utils/io/safetensors.h>
#include <transformers/utils/io/torch_checkpoint.h>

#include <filesystem>
#include <iostream>
#include <sstream>

namespace transformers {
namespace {

using Tensors = torch::OrderedDict<std::string, at::Tensor>;

template <class Source>
Tensors all_tensors(const Source& source) {
  Tensors tensors;
  for (const auto& info : source.tensors()) {
    tensors.insert(info.name, source.tensor(info.name));
  }
  return tensors;
}

void resave(const std::string& from, const std::string& to, const std::string& max_shard_size) {
  Tensors tensors;
  std::map<std::string, std::string> metadata{{"format", "pt"}};
  if (std::filesystem::is_directory(from)) {
    tensors = all_tensors(Checkpoint(from));
  } else if (from.ends_with(".bin")) {
    tensors = all_tensors(TorchCheckpointFile(from));
  } else {
    const SafetensorsFile file(from);
    tensors = all_tensors(file);
    metadata = file.metadata();
  }
  if (max_shard_size.empty()) {
    save_safetensors(to, tensors, metadata);
  } else {
    save_checkpoint(to, tensors, {.max_shard_size = parse_size(max_shard_size)});
  }
}

}  // namespace
}  // namespace transformers

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream fields(line);
    std::string from, to, max_shard_size;
    std::getline(fields, from, '\t');
    std::getline(fields, to, '\t');
    std::getline(fields, max_shard_size, '\t');
    try {
      transformers::resave(from, to, max_shard_size);
      std::cout << "ok" << std::endl;
    } catch (const c10::Error& error) {
      std::cout << "error: " << error.what_without_backtrace() << std::endl;
    }
  }
}
