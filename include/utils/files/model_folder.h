#pragma once

/// \file
/// The room utils/files opens the files of a model folder safely and replaces them atomically. It deals in bytes and
/// JSON; tensors are read and written in utils/io.

#include <transformers/export.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

namespace transformers {
struct FolderContents;
}  // namespace transformers

namespace TRANSFORMERS_API transformers {

/// A folder with a model, its tokenizer or an adapter. Functions that load one take a `ModelFolder`, to which a path
/// converts. Functions that get the same object open and parse the files that they share, such as config.json, only
/// once:
///
///     const ModelFolder folder("llama-2-7b");
///     folder.read_one_save([&] {
///       tokenizer = load_tokenizer(folder);
///       model = AutoModelForCausalLM::from_pretrained(folder);
///     });
///
/// Copies share the parsed files. No file is opened before it is needed. An object may be used by one thread at a time.
class ModelFolder {
 public:
  ModelFolder(std::string path);  // NOLINT(google-explicit-constructor): a path is a folder
  ModelFolder(const char* path) : ModelFolder(std::string(path)) {}               // NOLINT
  ModelFolder(const std::filesystem::path& path) : ModelFolder(path.string()) {}  // NOLINT

  const std::string& path() const { return path_; }
  /// The path of a file of the folder.
  std::string file(const std::string& name) const;
  /// Whether the folder has such a file, as if a save that is under way were done.
  bool contains(const std::string& name) const;

  /// Calls `read`, which opens files of the folder through this library, and calls it again whenever a save changed the
  /// folder meanwhile, so that everything it opened comes from the same save. First finishes a save that was
  /// interrupted. Nested calls for the same object call `read` just once. Use it to load several things from a folder
  /// that may be saved into at the same time, as above; functions that load one thing use it themselves.
  void read_one_save(const std::function<void()>& read) const;

  /// For use by the library: the parsed files.
  FolderContents& contents() const { return *contents_; }

 private:
  std::string path_;
  std::shared_ptr<FolderContents> contents_;
};

}  // namespace transformers
